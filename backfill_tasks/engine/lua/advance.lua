-- Move a lane's cursor past a committed page and record the last page that was sent: compare-and-set on generation and
-- page.
-- Returns 1 if it was moved, 0 if a newer chain or a later page was first. A lane that Redis has lost is written anew:
-- the caller has just committed this page to the ledger.
-- KEYS[1] the lane's hash · ARGV[1] generation · ARGV[2] page · ARGV[3] cursor · ARGV[4] the last page that was sent
-- ARGV[5] seconds after which an untouched hash expires
-- ARGV[6] the call's token: a client that lost the reply repeats the call with the same token and gets the same answer
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then
  redis.call('DEL', KEYS[1])
end
local generation, page, call = unpack(redis.call('HMGET', KEYS[1], 'generation', 'page', 'advance_call'))
if call == ARGV[6] then
  return 1
end
generation, page = tonumber(generation or '') or 0, tonumber(page or '') or -1
if generation > tonumber(ARGV[1]) or (generation == tonumber(ARGV[1]) and page >= tonumber(ARGV[2])) then
  return 0
end
redis.call(
  'HSET', KEYS[1], 'generation', ARGV[1], 'page', ARGV[2], 'cursor', ARGV[3], 'sent', ARGV[4], 'attempts', 0,
  'advance_call', ARGV[6]
)
redis.call('EXPIRE', KEYS[1], ARGV[5])
return 1
