-- Lanes with the most that wait: at most ARGV[3]. Answers { lanes, waiting, the longest, { id, name, key, waiting, oldest,
-- since, until } … }; 0 stands for nothing. At most 5,000 lanes are looked at.
read_clock()
local found, waiting, longest = {}, 0, 0
for _, id in ipairs(redis.call('ZRANGE', KEYS[5], 0, 4999)) do
  local bytes = redis.call('GET', P .. 'n:' .. id)
  if bytes then
    local lane = cmsgpack.unpack(bytes)
    local turn, queue = lane[TURN], lane[WAITING]
    waiting = waiting + #queue
    longest = math.max(longest, #queue)
    table.insert(found, {
      id, lane[NAME], lane[KEY], #queue, #queue > 0 and queue[1][P_JOINED] or 0, turn and turn[T_SINCE] or 0,
      turn and turn[T_SENT] and turn[T_UNTIL] or 0,
    })
  end
end
local count = #found
table.sort(found, function(a, b)
  if a[4] ~= b[4] then return a[4] > b[4] end
  return a[1] < b[1]
end)
local answer = {count, waiting, longest}
for at = 1, math.min(count, tonumber(ARGV[3])) do table.insert(answer, found[at]) end
return answer
