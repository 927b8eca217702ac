-- Ask for the fleet's next slot. The worker that takes a slot uses it at once: none is reserved for a worker that may
-- die. Slots are one interval apart, counted from the previous slot rather than from the time it was taken, so a late
-- timer loses nothing. At most CATCH_UP of missed time is made up for.
--
-- KEYS[1] the rate's hash · KEYS[2] the hash of workers with waiting tasks: when their oldest came and when they last
-- asked
-- ARGV[1] the worker · ARGV[2] for how many µs its oldest task has waited; -1: none waits, it only asks for the rate
-- ARGV[3] the rate known to the worker, as written · ARGV[4] its interval in µs (0: no limit) · ARGV[5] when it was set
-- (0: only in the worker's environment)
-- A slot whose reply is lost is lost: the worker asks for the next one.
-- Returns 1 if the slot is taken, else 0 · the µs to wait · the current rate · when it was set

-- All in µs. 50 ms is half of what keeps every second within 10 % plus one task of the rate: the other half allows for
-- the delay between this script and the task's start.
local CATCH_UP = 50000
-- A worker whose task has waited this much longer than the asking worker's goes first ...
local MUCH = 1000000
-- ... if it asks for the slot within this time.
local GRACE = 100000
-- Workers ask at least once per second: one that didn't ask for this long is gone.
local GONE = 2500000
-- A worker without a rate set by command gives other workers this long to restore one after Redis was emptied.
local SETTLE = 1500000

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

if redis.call('TYPE', KEYS[2]).ok ~= 'hash' then
  redis.call('DEL', KEYS[2])
end

-- The rate. Of two rates, the one set later applies. Junk makes this fail, and no page starts: a rate is never guessed.
local set_at = tonumber(redis.call('HGET', KEYS[1], 'at') or '0')
local known_at = tonumber(ARGV[5])
if set_at == 0 or set_at < known_at then
  redis.call('HSET', KEYS[1], 'rate', ARGV[3], 'interval', ARGV[4], 'at', math.max(known_at, 1))
  if set_at == 0 then
    redis.call('HSET', KEYS[1], 'last', known_at == 0 and now + SETTLE - ARGV[4] or now)
  end
end
local rate, interval, last, at = unpack(redis.call('HMGET', KEYS[1], 'rate', 'interval', 'last', 'at'))
interval, last, at = tonumber(interval), tonumber(last), tonumber(at)
if last > now + SETTLE then -- another server's clock, or a clock that was set back
  last = now
end
local due = last + interval

if ARGV[2] == '-1' then
  redis.call('HDEL', KEYS[2], ARGV[1])
  return {0, 0, rate, at}
end

-- Who waits: slots go to tasks in their order of arrival, if their workers ask for them.
local came = now - ARGV[2]
local before, must_yield = {ARGV[1]}, false
local waiting = redis.call('HGETALL', KEYS[2])
for i = 1, #waiting, 2 do
  local others, asked = string.match(waiting[i + 1], '(%d+) (%d+)')
  if not asked or now - asked > GONE then
    redis.call('HDEL', KEYS[2], waiting[i])
  elseif waiting[i] ~= ARGV[1] and tonumber(others) < came then
    table.insert(before, waiting[i])
    must_yield = must_yield or tonumber(others) < came - MUCH
  end
end

if interval == 0 and now >= due or now >= due and not (must_yield and now < due + GRACE) then
  if interval > 0 then
    redis.call('HSET', KEYS[1], 'last', math.max(due, now - CATCH_UP))
  end
  redis.call('HDEL', KEYS[2], unpack(before)) -- those ahead of it did not ask in time; they ask again if they are alive
  return {1, 0, rate, at}
end

redis.call('HSET', KEYS[2], ARGV[1], string.format('%d %d', came, now))
redis.call('EXPIRE', KEYS[2], 60)
if now >= due then
  return {0, math.min(due + GRACE - now, interval), rate, at}
end
return {0, due - now + (#before - 1) * interval, rate, at}
