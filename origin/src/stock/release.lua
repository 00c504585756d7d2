-- Undoes a take. KEYS: epoch, the order's hold, all holds. ARGV: epoch, order number.
-- A hold of an older generation is dropped without giving back: the rebuilt levels never counted it.
local hold = redis.call('HGETALL', KEYS[2])
if #hold > 0 and redis.call('GET', KEYS[1]) == ARGV[1] then
  for i = 1, #hold, 2 do
    redis.call('INCRBY', hold[i], hold[i + 1])
  end
end
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[2])
return #hold / 2
