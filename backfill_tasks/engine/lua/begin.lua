-- A page starts, its lane locked in the ledger. Answers how often it has started without finishing, this time included.
-- KEYS[1] the lane's hash · ARGV[1] page · ARGV[2] seconds after which a hash that nobody touches is dropped
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then
  redis.call('DEL', KEYS[1])
end
local begun, attempts = unpack(redis.call('HMGET', KEYS[1], 'begun', 'attempts'))
attempts = (begun == ARGV[1] and tonumber(attempts or '') or 0) + 1
redis.call('HSET', KEYS[1], 'begun', ARGV[1], 'attempts', attempts)
redis.call('EXPIRE', KEYS[1], ARGV[2])
return attempts
