-- `Command::End` for every record that an unsafe success concerns. ARGV: 3 meaning, 4 scope, 5 the target, 6 … those above.
local now = read_clock()
local targets = {}
for at = 5, #ARGV do targets[at - 4] = ARGV[at] end
local changed = end_intents(targets, ARGV[4], ARGV[3], now)
if changed > 0 then write_clock(now) end
return changed
