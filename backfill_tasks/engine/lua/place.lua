-- Set a lane's cursor to the ledger's position, whatever is there. The crash counter is kept.
-- KEYS[1] the lane's hash · ARGV[1] generation · ARGV[2] page · ARGV[3] cursor · ARGV[4] the last page that was sent
-- ARGV[5] seconds after which an untouched hash expires
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then
  redis.call('DEL', KEYS[1])
end
redis.call('HSET', KEYS[1], 'generation', ARGV[1], 'page', ARGV[2], 'cursor', ARGV[3], 'sent', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[5])
