-- Claim the right to send a page whose predecessor is committed but whose own message was not sent.
-- Returns 1 if claimed, 0 if it was sent, another process has claimed it, or a newer chain has the lane.
-- KEYS[1] the lane's hash · ARGV[1] generation · ARGV[2] page · ARGV[3] seconds after which an untouched hash expires
-- ARGV[4] the call's token: a client that lost the reply repeats the call with the same token and gets the same answer
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then
  redis.call('DEL', KEYS[1])
end
local generation, sent, call = unpack(redis.call('HMGET', KEYS[1], 'generation', 'sent', 'claim_call'))
if call == ARGV[4] then
  return 1
end
generation, sent = tonumber(generation or '') or 0, tonumber(sent or '') or 0
if generation > tonumber(ARGV[1]) or (generation == tonumber(ARGV[1]) and sent >= tonumber(ARGV[2])) then
  return 0
end
redis.call('HSET', KEYS[1], 'generation', ARGV[1], 'sent', ARGV[2], 'claim_call', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
