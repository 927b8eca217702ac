-- Move a key out of the way that isn't of the type that it must have. What lay there before from another time goes.
-- Answers the type that the key had, or false where there was nothing to do.
-- KEYS[1] the key · KEYS[2] its new name · ARGV[1] the type that it must have
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' or kind == ARGV[1] then
  return false
end
redis.call('RENAME', KEYS[1], KEYS[2])
return kind
