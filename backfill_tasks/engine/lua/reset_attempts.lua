-- Reset a page's crash counter.
-- KEYS[1] the lane's hash · ARGV[1] seconds after which an untouched hash expires
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then
  redis.call('DEL', KEYS[1])
end
redis.call('HSET', KEYS[1], 'attempts', 0)
redis.call('EXPIRE', KEYS[1], ARGV[1])
