-- What all scripts share besides core.lua: what time makes of a record, and what a change of one means for others.

local function record_key(id)
  return P .. 'r:' .. id
end

-- Of the attempt that a record is of, whoever said how it ended.
local function token_of(record)
  return string.sub(record[TOKEN], -16)
end

local function in_flight(record)
  return record[PHASE] == QUEUED or record[PHASE] == SENT
end

local function to_doubt(record, since, why)
  record[PHASE] = DOUBT
  record[SINCE] = since
  record[UNTIL] = since + record[DOUBT_FOR]
  record[WHY] = why
end

-- `domain::ledger::settle`: what time alone makes of a record. The second value: whether it made anything of it.
local function settled(record, now)
  if not record or now < record[UNTIL] then return record, false end
  if record[PHASE] == SENT then
    to_doubt(record, record[UNTIL], 'lease-ended')
    if now < record[UNTIL] then return record, true end
  end
  return nil, true
end

-- Takes a record away.
local function remove(key, record, before)
  local id = id_of(key)
  redis.call('ZREM', phase_set(before), id)
  redis.call('ZREM', P .. 's:' .. record[SCOPE], id)
  redis.call('ZREM', P .. 't:' .. record[TARGET], id)
  if record[NAMES] then redis.call('ZREM', P .. 't:' .. record[NAMES], id) end
  if is_apart(record) then redis.call('DEL', P .. 'a:' .. id) end
  redis.call('DEL', key)
end

-- The same for one that counts no longer, although its time is not over. Whoever claimed it remembers it, and must not bring
-- it back: who hears of this forgets it, and for those who do not hear it is written down for as long as it would have counted
-- (`restore.lua`).
local function forget(key, record, before)
  local id, token, last = id_of(key), token_of(record), end_of(record)
  purge(P .. 'ef', NOW, 10)
  enter(P .. 'ef', digits(last), id .. token, last)
  publish(id, token, 'e', digits(last))
  remove(key, record, before)
end

-- Copies that wait hear how an attempt ended. Where the record is gone by it, its answer is left beside it for a while.
local function tell_gone(id, record, answer)
  if not record[WAITED] then return end
  if not answer or answer == '' then return publish(id, record[TOKEN], 'n', '') end
  redis.call('SET', P .. 'e:' .. id .. record[TOKEN], answer, 'PX', END_KEPT)
  if #answer > INLINE then
    publish(id, record[TOKEN], 'A', '')
  else
    publish(id, record[TOKEN], 'a', answer)
  end
end

local function tell_doubt(id, record)
  if not record[WAITED] then return end
  publish(id, record[TOKEN], 'x', record[SINCE] .. ' ' .. record[UNTIL] .. ' ' .. record[WHY])
end

-- One that its own gateway did not put in doubt: somebody will tell of it (`untold.lua`).
local function doubt_alone(key, record, before)
  local id, last = id_of(key), end_of(record)
  put(key, record, before)
  purge(P .. 'xt', NOW, 10)
  enter(P .. 'xt', digits(last), id, last)
  tell_doubt(id, record)
end

-- What time did to the slots of a record's attempt; in slots.lua.
local time_came

-- The record under `key` as it is at `now`, and the phase that its sets know it by. What time made of it is written.
local function find(key, now)
  local record = read(key)
  if not record then return nil, nil end
  local before, last = record[PHASE], record[UNTIL]
  local aged, changed = settled(record, now)
  if not changed then return record, before end
  if record[SLOTS] then time_came(record, before, last) end
  if not aged then
    -- A sent one went through its doubt on the way.
    record[PHASE] = before
    remove(key, record, before)
    if before == QUEUED then tell_gone(id_of(key), record, nil) end
    return nil, nil
  end
  doubt_alone(key, aged, before)
  return aged, aged[PHASE]
end

-- `domain::store::EndIntents::concerns`.
local function concerns(record, target, parents, scope)
  if record[TARGET] == target then return true end
  if record[PHASE] ~= DONE then return false end
  local names = record[NAMES]
  if names and (names == target or parents[names]) then return true end
  return parents[record[TARGET]] and (not names or record[SCOPE] == scope) or false
end

-- Whether one of the resources `above` (16 bytes each) ended with all below it after the record was done. One that says
-- what it made ends only by its own scope's change. In the same millisecond nothing has ended: a write that came behind
-- the change is no new one.
local function has_ended_above(record, above)
  for at = 1, #above, 16 do
    local ended = redis.call('GET', P .. 'b:' .. string.sub(above, at, at + 15) .. (record[NAMES] and record[SCOPE] or ''))
    if ended and tonumber(ended) > record[SINCE] then return true end
  end
  return false
end

-- The scope that `scope` stands for.
local function alias_of(scope, now)
  local known = redis.call('GET', P .. 'l:' .. scope)
  if known and tonumber(string.sub(known, 17)) > now then return string.sub(known, 1, 16) end
  return scope
end

-- From now on `from` means `to`, for `keep` at least. Answers until when, and 0 where it does not: it has records of its own
-- or means another scope, whose records it must find, or the limit is reached.
local function add_alias(from, to, keep)
  if from == to or redis.call('ZCOUNT', P .. 's:' .. from, '(' .. digits(NOW), '+inf') > 0 then return 0 end
  local known = redis.call('GET', P .. 'l:' .. from)
  if known then
    local other, known_last = string.sub(known, 1, 16), tonumber(string.sub(known, 17))
    if other ~= to and known_last > NOW then return 0 end
    if other == to and known_last >= NOW + keep then return known_last end
    redis.call('ZREM', P .. 'l', from .. other)
  else
    -- What is over counts no longer.
    purge(P .. 'l', NOW, 10)
    if redis.call('ZCARD', P .. 'l') >= ALIASES_MOST then return 0 end
  end
  local last = NOW + keep + math.floor(keep / ALIAS_AHEAD)
  local ends = digits(last)
  enter(P .. 'l', ends, from .. to, last)
  local text = to .. ends
  redis.call('SET', P .. 'l:' .. from, text, 'PXAT', digits(last + SLACK))
  redis.call('PUBLISH', ARGV[2], 'l' .. from .. text)
  return last
end

-- The ids in a resource's set whose records are as `is_wanted` says. All of them are looked at, many in one command; what
-- is over is not, and leaves the set, as does what has no record any more.
local function known_of(set, now, is_wanted)
  purge(set, now, 1000)
  local ids, wanted = redis.call('ZRANGEBYSCORE', set, '(' .. digits(now), '+inf'), {}
  for from = 1, #ids, 256 do
    local keys, gone = {}, {}
    for at = from, math.min(from + 255, #ids) do keys[#keys + 1] = record_key(ids[at]) end
    for at, bytes in ipairs(redis.call('MGET', unpack(keys))) do
      local id = ids[from + at - 1]
      if not bytes then
        gone[#gone + 1] = id
      elseif is_wanted(unpacked(bytes)) then
        wanted[#wanted + 1] = id
      end
    end
    if #gone > 0 then redis.call('ZREM', set, unpack(gone)) end
  end
  return wanted
end

-- An unsafe request succeeded: ends the keyless intents of its targets that mean something else than `by` ('' for a
-- meaning that was not taken). `targets`: the resource itself, then those above it. `subtree_for`: so long it is kept that
-- all below it ended, too; 0: it has not. Says how many records it changed.
local function end_intents(targets, scope, by, subtree_for, now)
  if subtree_for > 0 then
    local at = string.format('%.0f', now)
    -- By whomever, and by this scope.
    for _, whose in ipairs({'', scope}) do
      redis.call('SET', P .. 'b:' .. targets[1] .. whose, at, 'PX', subtree_for + SLACK)
    end
  end
  local parents, changed = {}, 0
  for at = 2, #targets do parents[targets[at]] = true end
  for _, target in ipairs(targets) do
    for _, id in ipairs(known_of(P .. 't:' .. target, now, function(record)
      return not record[KEYED] and record[MEANING] ~= by and concerns(record, targets[1], parents, scope)
    end)) do
      local key = record_key(id)
      local record, before = find(key, now)
      if record and record[PHASE] == DONE then
        forget(key, record, before)
        changed = changed + 1
      elseif record and (record[PHASE] == SENT or record[PHASE] == DOUBT) and not record[ENDED] then
        record[ENDED] = true
        put(key, record, before)
        publish(id, record[TOKEN], 'm', digits(end_of(record)))
        changed = changed + 1
      end
    end
  end
  return changed
end

-- The outcome of `record` is known: kept, or nothing where a later success has ended the intent already.
local function answered(key, record, before, by, answer, stored, status, keep, now)
  if record[ENDED] then
    forget(key, record, before)
    tell_gone(id_of(key), record, answer)
    return false
  end
  keep_answer(key, record, before, by, answer, stored, status, keep, now)
  return true
end
