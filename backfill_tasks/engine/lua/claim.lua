-- Claim the right to send a page whose predecessor was committed and not followed. 1: claimed; 0: it was sent, or claimed
-- by another, or a newer chain has the lane.
-- KEYS[1] the lane's hash · ARGV[1] generation · ARGV[2] page · ARGV[3] seconds after which a hash that nobody touches is dropped
local generation = tonumber(redis.call('HGET', KEYS[1], 'generation') or '0')
local sent = tonumber(redis.call('HGET', KEYS[1], 'sent') or '0')
if generation > tonumber(ARGV[1]) or (generation == tonumber(ARGV[1]) and sent >= tonumber(ARGV[2])) then
  return 0
end
redis.call('HSET', KEYS[1], 'generation', ARGV[1], 'sent', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
