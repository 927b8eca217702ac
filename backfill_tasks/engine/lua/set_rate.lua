-- Set the fleet's rate. The next slot is one new interval after the last one taken, so no slot is granted on top.
-- Returns the previous rate, or false if there was none.
-- KEYS[1] the rate's hash · ARGV[1] the rate, as written · ARGV[2] its interval in µs (0: no limit)
-- ARGV[3] the call's token: a client that lost the reply repeats the call with the same token and gets the same answer
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then
  redis.call('DEL', KEYS[1])
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local rate, at, last, call, before = unpack(redis.call('HMGET', KEYS[1], 'rate', 'at', 'last', 'set_call', 'before'))
if call == ARGV[3] then
  return before ~= '' and before
end
redis.call(
  'HSET', KEYS[1], 'rate', ARGV[1], 'interval', ARGV[2],
  'at', math.max(now, (tonumber(at or '') or 0) + 1),
  'last', tonumber(last or '') or now,
  'set_call', ARGV[3], 'before', rate or ''
)
return rate
