-- The client of a queued attempt has left: claim and place are given up in one step, unless copies wait for them.
-- ARGV: 3 token, 4 whether copies of this gateway wait. Answers { `yes`, `awaited` or `gone`, who has the turn by it }.
local token, now = ARGV[3], read_clock()
local record, before = find(KEYS[1], now)
if not record or record[PHASE] == DONE or record[TOKEN] ~= token then return {'gone', ''} end
-- Copies of this gateway are counted there; of those of others nobody hears when they leave.
if ARGV[4] == '1' or record[WAITED] == 2 then return {'awaited', ''} end
write_clock(now)
local lane = read_lane()
if lane then
  settle_lane(lane)
  leave(lane, token)
  if NEXT == token then NEXT = false end
  write_lane(lane)
  tell_next(token)
end
free_open(record)
remove(KEYS[1], record, before)
tell_gone(id_of(KEYS[1]), record, nil)
return {'yes', NEXT or ''}
