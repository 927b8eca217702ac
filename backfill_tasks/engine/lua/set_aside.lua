-- Rename a key of the wrong type. A key that an earlier call has renamed is overwritten.
-- Returns the key's type, or false if it is missing or has the right type.
-- KEYS[1] the key · KEYS[2] its new name · ARGV[1] the type it must have
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' or kind == ARGV[1] then
  return false
end
redis.call('RENAME', KEYS[1], KEYS[2])
return kind
