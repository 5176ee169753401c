-- A gateway says again what it knows of one record, after the store may have forgotten it. What the store still knows is
-- not overwritten by it; only what the same attempt did later is added. Answers `kept`, `put`, `other` or `gone`.
--
-- ARGV: 3 `sent`, `done` or `abandoned`, 4 token, 5 owner, 6 meaning, 7 keyed, 8 policy, 9 scope, 10 target, 11 lease,
-- 12 how long a doubt is kept, 13 route, 14 request, 15 request id, 16 claimed at, 17 done at, 18 until, 19 status,
-- 20 answer, 21 names, 22 the slots that its attempt reserved, whose holds are said after it (`slot_restore.lua`).
local how, token, now = ARGV[3], ARGV[4], read_clock()
local record, before = find(KEYS[1], now)
if how == 'abandoned' then
  if not record or record[TOKEN] ~= token or record[PHASE] == DONE then return 'gone' end
  write_clock(now)
  free_open(record)
  remove(KEYS[1], record, before)
  tell_gone(id_of(KEYS[1]), record, nil)
  return 'put'
end
local is_own = record and token_of(record) == token
local has_ended = redis.call('ZMSCORE', P .. 'ef', id_of(KEYS[1]) .. token, id_of(KEYS[1]) .. token .. 'm')
if not is_own and (has_ended[1] or how == 'done' and has_ended[2]) then return 'gone' end
-- What was settled by hand tells no more of its attempt, where an earlier version did it.
if record and record[TOKEN] == '' then return 'kept' end
if record and not is_own and tonumber(ARGV[16]) > record[CLAIMED] then
  -- An older state has an attempt that was over when this one was granted. What became of its slots is not said here, so
  -- they stay taken.
  write_clock(now)
  if record[PHASE] ~= DONE then unsettle_open(record, now) end
  remove(KEYS[1], record, before)
  record, before = nil, nil
end
if record and not is_own then return 'other' end
if record and how == 'sent' and record[PHASE] == QUEUED then
  -- An older state knows nothing of its first byte.
  write_clock(now)
  send_open(record)
  record[PHASE], record[SINCE] = SENT, now
  put(KEYS[1], record, before)
  return 'put'
end
if record and (how == 'sent' or record[PHASE] == DONE) then return 'kept' end
local last = tonumber(ARGV[18])
-- Since it was answered, so that what ended above it meanwhile still ends it, and nothing that ended before.
local done_at = tonumber(ARGV[17])
if how == 'done' then now = go_on_from(now, done_at) end
if how == 'done' and last <= now then return 'gone' end
write_clock(now)
if not record then
  record = {
    FORMAT, SENT, token, ARGV[5], ARGV[6], ARGV[7] == '1', ARGV[8], ARGV[9], ARGV[10], tonumber(ARGV[16]),
    tonumber(ARGV[12]), has_ended[2] and true or false, now + tonumber(ARGV[11]), now, false, 0, false, false, 0, ARGV[13], ARGV[14], ARGV[15],
    false, ARGV[22],
  }
end
if how == 'sent' then
  put(KEYS[1], record, before)
  return 'put'
end
if ARGV[21] ~= '' and not record[NAMES] then record[NAMES] = ARGV[21] end
answered(KEYS[1], record, before, token, ARGV[20], ARGV[20], tonumber(ARGV[19]), last - done_at, done_at)
return 'put'
