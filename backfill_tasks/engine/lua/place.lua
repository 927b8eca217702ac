-- Put a lane's cursor where the ledger has it, whatever is there. How often its page has ended a worker stays counted.
-- KEYS[1] the lane's hash · ARGV[1] generation · ARGV[2] page · ARGV[3] cursor · ARGV[4] the page that was sent last
-- ARGV[5] seconds after which a hash that nobody touches is dropped
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then
  redis.call('DEL', KEYS[1])
end
redis.call('HSET', KEYS[1], 'generation', ARGV[1], 'page', ARGV[2], 'cursor', ARGV[3], 'sent', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[5])
