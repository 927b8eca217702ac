-- Count the start of a page whose lane is locked in the ledger.
-- Returns how often the page has started without finishing, this time included.
-- KEYS[1] the lane's hash · ARGV[1] page · ARGV[2] seconds after which an untouched hash expires
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then
  redis.call('DEL', KEYS[1])
end
local begun, attempts = unpack(redis.call('HMGET', KEYS[1], 'begun', 'attempts'))
attempts = (begun == ARGV[1] and tonumber(attempts or '') or 0) + 1
redis.call('HSET', KEYS[1], 'begun', ARGV[1], 'attempts', attempts)
redis.call('EXPIRE', KEYS[1], ARGV[2])
return attempts
