-- Lowers a level to the truth, never raises it. KEYS: epoch, stock. ARGV: epoch, available.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local left = redis.call('GET', KEYS[2])
if left and tonumber(left) > tonumber(ARGV[2]) then
  redis.call('SET', KEYS[2], ARGV[2])
  return 1
end
return 0
