-- The gate at one moment. KEYS: all holds, then one stock key a SKU. ARGV: what a hold's key begins with.
-- Answers {levels, holds}: a level or '' a SKU; and order number, stock key, quantity, … for every line that is held.
local levels, holds = {}, {}
for i = 2, #KEYS do
  levels[i - 1] = redis.call('GET', KEYS[i]) or ''
end
for _, order in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local lines = redis.call('HGETALL', ARGV[1] .. order)
  for i = 1, #lines, 2 do
    holds[#holds + 1] = order
    holds[#holds + 1] = lines[i]
    holds[#holds + 1] = lines[i + 1]
  end
end
return {levels, holds}
