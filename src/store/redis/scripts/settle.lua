-- `Command::Resolve` and `Command::Delete`. ARGV[3]: `executed`, `not-executed` or `delete`, by an operator; `absent`, of
-- the attempt ARGV[4] alone, by a probe. Answers { what, the attempt, its lane }.
local how, now = ARGV[3], read_clock()
local record, before = find(KEYS[1], now)
if not record then return {'none', '', ''} end
local fits = record[PHASE] == DOUBT
if how == 'delete' then fits = not in_flight(record) end
if how == 'absent' then fits = fits and record[TOKEN] == ARGV[4] end
if not fits then return {'no', '', ''} end
write_clock(now)
local token = record[TOKEN]
if how == 'executed' then
  local status = tonumber(ARGV[5])
  settle_open(record, status >= 200 and status < 400 and HELD or UNSETTLED, {})
  answered(KEYS[1], record, before, '', ARGV[4], ARGV[4], status, tonumber(ARGV[6]), now)
else
  if how ~= 'delete' then free_open(record) end
  forget(KEYS[1], record, before)
end
return {'yes', token, record[LANE] or ''}
