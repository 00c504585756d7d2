-- Takes all lines of an order, or none.
-- KEYS: epoch, the order's hold, all holds, the request's marker, then one stock key a line.
-- ARGV: epoch, now (ms since 1970), order number, the marker's life (ms), how long an order may be in the making (ms), whether
-- the caller looked for an equal request's order and found none (0 or 1), then one quantity a line.
-- Answers {0,0,0} taken (or taken before), {1,i,left} line i has too little left, {2,i,0} the gate cannot say,
-- {3,0,0} an equal request came here under another order number and was, or is being, decided.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {2, 0, 0} end
if redis.call('EXISTS', KEYS[2]) == 1 then return {0, 0, 0} end
local twin = redis.call('GET', KEYS[4])
if twin and twin ~= ARGV[3] then
  local age = ARGV[4] - redis.call('PTTL', KEYS[4])
  if ARGV[6] == '0' or age < tonumber(ARGV[5]) then return {3, 0, 0} end
end
local lines = #KEYS - 4
for i = 1, lines do
  local left = redis.call('GET', KEYS[4 + i])
  if not left then return {2, i, 0} end
  if tonumber(left) < tonumber(ARGV[6 + i]) then return {1, i, tonumber(left)} end
end
for i = 1, lines do
  redis.call('DECRBY', KEYS[4 + i], ARGV[6 + i])
  redis.call('HSET', KEYS[2], KEYS[4 + i], ARGV[6 + i])
end
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[3])
redis.call('SET', KEYS[4], ARGV[3], 'PX', ARGV[4])
return {0, 0, 0}
