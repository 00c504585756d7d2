-- Takes all lines of an order, or none; of some orders, one after the other.
-- KEYS: epoch, all holds, what the names of the markers begin with, then the stock of each SKU.
-- ARGV: epoch, how long a marker stays (ms), how long an order may be in the making (ms); then of each order its number, its
-- request, whether the caller looked for an equal request's order and found none (0 or 1), how many lines it has, and of each
-- line which of the SKUs (from 1) and the quantity.
-- Answers, of each order three numbers in one list: 0,0,0 taken (or taken before); 1,i,left line i has too little left; 2,i,0 the
-- gate cannot say; 3,0,0 an equal request came here under another order number and was, or is being, decided. Nothing at all
-- when the gate is of another generation.
local levels = redis.call('MGET', KEYS[1], unpack(KEYS, 4))
if table.remove(levels, 1) ~= ARGV[1] then return {} end
-- What DECRBY would refuse, half-way through, is no level.
for sku, level in ipairs(levels) do
  local is_whole = level == '0' or level and #level < 16 and string.match(level, '^%-?[1-9]%d*$')
  levels[sku] = is_whole and tonumber(level)
end

-- Of Redis' own clock, which all replicas share.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local life, making = tonumber(ARGV[2]), tonumber(ARGV[3])
local period = math.floor(now / life)
local fresh, older = KEYS[3] .. period, KEYS[3] .. (period - 1)

local orders, numbers, requests, at = {}, {}, {}, 4
while at <= #ARGV do
  orders[#orders + 1], numbers[#numbers + 1], requests[#requests + 1] = at, ARGV[at], ARGV[at + 1]
  at = at + 4 + 2 * ARGV[at + 3]
end
local hold_of = {}
for i, hold in ipairs(redis.call('HMGET', KEYS[2], unpack(numbers))) do hold_of[numbers[i]] = hold end
local markers, older_markers = redis.call('HMGET', fresh, unpack(requests)), redis.call('HMGET', older, unpack(requests))
local marker_of = {}
for i, request in ipairs(requests) do marker_of[request] = markers[i] or older_markers[i] end

local less, holds, marked = {}, {}, {}

local function decide(at)
  local number, request, lines = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 3])
  if hold_of[number] then
    -- Another replica may have drawn the same number: its hold is not to be touched.
    if string.match(hold_of[number], '^%d+ (%S+)') == request then return 0, 0, 0 else return 2, 1, 0 end
  end
  if marker_of[request] then
    local twin, since = string.match(marker_of[request], '^(%S+) (%d+)$')
    if twin == number then return 0, 0, 0 end
    if ARGV[at + 2] == '0' or now - since < making then return 3, 0, 0 end
  end
  for i = 1, lines do
    local level = levels[tonumber(ARGV[at + 2 + 2 * i])]
    if not level then return 2, i, 0 end
    if level < tonumber(ARGV[at + 3 + 2 * i]) then return 1, i, level end
  end
  local hold = { now, request }
  for i = 1, lines do
    local sku, quantity = tonumber(ARGV[at + 2 + 2 * i]), ARGV[at + 3 + 2 * i]
    levels[sku] = levels[sku] - quantity
    less[sku] = (less[sku] or 0) + quantity
    hold[#hold + 1], hold[#hold + 2] = KEYS[3 + sku], quantity
  end
  marker_of[request], hold_of[number] = number .. ' ' .. now, table.concat(hold, ' ')
  holds[#holds + 1], holds[#holds + 2] = number, hold_of[number]
  marked[#marked + 1], marked[#marked + 2] = request, marker_of[request]
  return 0, 0, 0
end

local answers = {}
for _, at in ipairs(orders) do
  local n = #answers
  answers[n + 1], answers[n + 2], answers[n + 3] = decide(at)
end
for sku, quantity in pairs(less) do redis.call('DECRBY', KEYS[3 + sku], quantity) end
if #holds > 0 then
  redis.call('HSET', KEYS[2], unpack(holds))
  redis.call('HSET', fresh, unpack(marked))
  redis.call('PEXPIRE', fresh, 2 * life)
  -- Freed beside the shop's work: the expiry of a hash of a rush would hold everybody up.
  redis.call('UNLINK', KEYS[3] .. (period - 2))
end
return answers
