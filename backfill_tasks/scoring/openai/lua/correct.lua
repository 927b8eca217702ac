-- Correct the limits by what the server has said.
-- KEYS[1] the hash of the limits
-- ARGV[1] µs to move the limit on tokens by: what the request took beyond its estimate, or negative
-- ARGV[2] µs for which no request of the fleet may start
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then
  redis.call('DEL', KEYS[1])
end
local stored = redis.call('HMGET', KEYS[1], 'tokens', 'held')
local tokens = math.max(tonumber(stored[1] or '') or 0, now) + ARGV[1]
local held = math.max(tonumber(stored[2] or '') or 0, now + ARGV[2])
redis.call('HSET', KEYS[1], 'tokens', tokens, 'held', held)
redis.call('PEXPIRE', KEYS[1], 3600 * 1000)
return 1
