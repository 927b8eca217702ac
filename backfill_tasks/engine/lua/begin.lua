-- A page begins, its lane held in the ledger. Answers how often this page has begun and not ended, this time included.
-- KEYS[1] the lane's hash · ARGV[1] page · ARGV[2] seconds after which a hash that nobody touches is dropped
if redis.call('HGET', KEYS[1], 'begun') ~= ARGV[1] then
  redis.call('HSET', KEYS[1], 'begun', ARGV[1], 'attempts', 0)
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return redis.call('HINCRBY', KEYS[1], 'attempts', 1)
