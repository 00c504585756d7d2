-- Takes all lines of an order, or none.
-- KEYS: epoch, the order's hold, all holds, then one stock key a line.
-- ARGV: epoch, now (ms since 1970), order number, then one quantity a line.
-- Answers {0,0} taken (or taken before), {1,i} line i has too little left, {2,i} the gate cannot say.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {2, 0} end
if redis.call('EXISTS', KEYS[2]) == 1 then return {0, 0} end
local lines = #KEYS - 3
for i = 1, lines do
  local left = redis.call('GET', KEYS[3 + i])
  if not left then return {2, i} end
  if tonumber(left) < tonumber(ARGV[3 + i]) then return {1, i} end
end
for i = 1, lines do
  redis.call('DECRBY', KEYS[3 + i], ARGV[3 + i])
  redis.call('HSET', KEYS[2], KEYS[3 + i], ARGV[3 + i])
end
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[3])
return {0, 0}
