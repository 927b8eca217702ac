-- Dead-letter a message, and in the same step remove it from the unacknowledged messages. Idempotent: a retry whose
-- first reply was lost adds nothing.
-- KEYS[1] the dead letters, newest first · KEYS[2] the hash of the unacknowledged messages · KEYS[3] its index
-- ARGV[1] the letter · ARGV[2] how many are kept · ARGV[3] the message's delivery tag; empty: no worker owns it
if redis.call('TYPE', KEYS[1]).ok ~= 'list' then
  redis.call('DEL', KEYS[1])
end
redis.call('LREM', KEYS[1], 1, ARGV[1])
redis.call('LPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], 0, ARGV[2] - 1)
if ARGV[3] ~= '' then
  redis.call('HDEL', KEYS[2], ARGV[3])
  redis.call('ZREM', KEYS[3], ARGV[3])
end
