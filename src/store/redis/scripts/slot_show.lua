-- Holds as they are now. ARGV[3] …: slot and token of each.
read_clock()
local answer = {}
for at = 3, #ARGV do
  local slot, token = string.sub(ARGV[at], 1, 16), string.sub(ARGV[at], 17)
  local hold = read_hold(slot, token)
  hold = hold and aged(slot, token, hold)
  if hold then table.insert(answer, shown(slot, token, hold)) end
end
return answer
