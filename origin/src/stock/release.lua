-- Undoes a take. KEYS: epoch, the order's hold, all holds, and the request's marker where it is known.
-- ARGV: epoch, order number.
-- A maker that knows another generation gives nothing back; holds of old generations are gone already (clear.lua).
local hold = redis.call('HGETALL', KEYS[2])
if #hold > 0 and redis.call('GET', KEYS[1]) == ARGV[1] then
  for i = 1, #hold, 2 do
    redis.call('INCRBY', hold[i], hold[i + 1])
  end
end
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[2])
if KEYS[4] and redis.call('GET', KEYS[4]) == ARGV[2] then redis.call('DEL', KEYS[4]) end
return #hold / 2
