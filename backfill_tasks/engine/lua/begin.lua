-- A page begins, its lane held in the ledger. Answers how often this page has begun and not ended, this time included.
-- KEYS[1] the lane's hash · ARGV[1] page · ARGV[2] seconds after which a hash that nobody touches is dropped
-- ARGV[3] the call's token: a client that has lost the reply asks again with the same, and is counted once
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then
  redis.call('DEL', KEYS[1])
end
local begun, attempts, call = unpack(redis.call('HMGET', KEYS[1], 'begun', 'attempts', 'begin_call'))
attempts = begun == ARGV[1] and tonumber(attempts or '') or 0
if begun ~= ARGV[1] or call ~= ARGV[3] then
  attempts = attempts + 1
  redis.call('HSET', KEYS[1], 'begun', ARGV[1], 'attempts', attempts, 'begin_call', ARGV[3])
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return attempts
