-- Take room for one request from the fleet's limits on requests and on tokens: from both, or from neither.
--
-- Each limit is a leaky bucket kept as one number (GCRA): the time at which it would be empty again. A request is
-- granted while that time is at most the tolerance ahead of now, and moves it by the request's share.
-- A request with more tokens than the bucket holds is granted too, and the next ones wait for it.
--
-- KEYS[1] the hash of the limits
-- ARGV[1] µs that one request takes (0: no limit) · ARGV[2] its tolerance in µs
-- ARGV[3] µs that this request's tokens take (0: no limit) · ARGV[4] its tolerance in µs
-- Returns 1 if granted, else 0 · the µs to wait before asking again

-- Numbers further ahead are of another server's clock, or of a clock that was set back: they count as this far.
local HORIZON = 3600 * 1000000

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then
  redis.call('DEL', KEYS[1])
end
local stored = redis.call('HMGET', KEYS[1], 'requests', 'tokens', 'held')

local function ahead(value)
  return math.min(math.max((tonumber(value or '') or 0) - now, 0), HORIZON)
end

local requests, tokens, held = ahead(stored[1]), ahead(stored[2]), ahead(stored[3])
local wait = math.max(held, requests - ARGV[2], tokens - ARGV[4], 0)
if wait > 0 then
  return {0, math.ceil(wait)}
end
redis.call('HSET', KEYS[1], 'requests', now + requests + ARGV[1], 'tokens', now + tokens + ARGV[3])
redis.call('PEXPIRE', KEYS[1], HORIZON / 1000)
return {1, 0}
