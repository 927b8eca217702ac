-- Move a lane's cursor past a committed page, and note which page was sent last: compare-and-set on generation and page.
-- 1: moved; 0: another chain, or a later page, was here. A lane that Redis has lost is written anew: the caller has just
-- committed this very page to the ledger.
-- KEYS[1] the lane's hash · ARGV[1] generation · ARGV[2] page · ARGV[3] cursor · ARGV[4] the page that was sent last
-- ARGV[5] seconds after which a hash that nobody touches is dropped
local generation = tonumber(redis.call('HGET', KEYS[1], 'generation') or '0')
local page = tonumber(redis.call('HGET', KEYS[1], 'page') or '-1')
if generation > tonumber(ARGV[1]) or (generation == tonumber(ARGV[1]) and page >= tonumber(ARGV[2])) then
  return 0
end
redis.call(
  'HSET', KEYS[1], 'generation', ARGV[1], 'page', ARGV[2], 'cursor', ARGV[3], 'sent', ARGV[4], 'attempts', 0
)
redis.call('EXPIRE', KEYS[1], ARGV[5])
return 1
