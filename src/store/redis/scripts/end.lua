-- `Command::End` for every record that an unsafe success concerns. ARGV: 3 meaning, 4 scope, 5 how long it is kept that all
-- below the target ended too (0: it has not), 6 the target, 7 … those above it. Answers { how many it changed, the instant }.
local now = read_clock()
local targets, subtree_for = {}, tonumber(ARGV[5])
for at = 6, #ARGV do targets[at - 5] = ARGV[at] end
local changed = end_intents(targets, ARGV[4], ARGV[3], subtree_for, now)
if changed > 0 or subtree_for > 0 then write_clock(now) end
return {changed, now}
