-- A page begins. Answers how often this page has begun and not ended, this time included; -1: a newer chain has the lane.
-- KEYS[1] the lane's hash · ARGV[1] generation · ARGV[2] page
local generation = tonumber(redis.call('HGET', KEYS[1], 'generation') or '0')
if generation > tonumber(ARGV[1]) then
  return -1
end
if redis.call('HGET', KEYS[1], 'begun') ~= ARGV[2] then
  redis.call('HSET', KEYS[1], 'generation', ARGV[1], 'begun', ARGV[2], 'attempts', 0)
end
return redis.call('HINCRBY', KEYS[1], 'attempts', 1)
