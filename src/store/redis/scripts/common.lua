-- What all scripts share: the clock, the record, and what time makes of it. Put in front of each script by `script.rs`.
--
-- A script is one step of `domain::ledger`: the same outcomes, the same changes. Its keys are those of one part of the
-- store (one hash tag), so that a cluster runs it on one node. KEYS: 1 record, 2 answer, 3 clock, 4 queued, 5 sent, 6 done,
-- 7 in doubt. ARGV[1]: what the names of the part's other keys begin with; ARGV[2]: the channel of the ends of attempts.
--
-- Where a script changes several keys, the record comes last: if the server breaks a script off (a slot that moves to
-- another node), what is left behind are entries of indexes without a record, which everybody passes over.

local P = ARGV[1]
local VERSION = 1

-- The present instant; `read_clock` sets it.
local NOW = 0

-- The places of a record's fields. New ones go to the end.
local V, PHASE, TOKEN, OWNER, MEANING, KEYED, POLICY, SCOPE, TARGET = 1, 2, 3, 4, 5, 6, 7, 8, 9
local CLAIMED, DOUBT_FOR, ENDED, UNTIL, SINCE, WHY, STATUS, NAMES = 10, 11, 12, 13, 14, 15, 16, 17
local WAITED, LENGTH, ROUTE, REQUEST, REQUEST_ID, LANE, SLOTS = 18, 19, 20, 21, 22, 23, 24

local QUEUED, SENT, DONE, DOUBT = 'q', 's', 'd', 'x'

-- A key outlives what it holds by so many milliseconds: what counts is read, not that a key is gone.
local SLACK = 60000
-- How long the clock outlives the last write.
local CLOCK_KEPT = 400 * 86400000
-- What an attempt without a record left to its waiting copies is kept so long.
local END_KEPT = 60000
-- An answer up to this size travels with the message that it is there.
local INLINE = 8192
-- Scopes that stand for others, at most.
local ALIASES_MOST = 1000000

-- The clock's key says the latest instant at which something changed, and under which agreement of the gateways nothing
-- is missing (`enter.lua`); '' where they have not agreed. Nil: there is no clock, so everything was lost.
local LIFE, FLOOR = nil, 0

-- Reads the present instant into NOW: it never goes back, whatever the server's own clock does.
local function read_clock()
  local time = redis.call('TIME')
  NOW = time[1] * 1000 + math.floor(time[2] / 1000)
  local written = redis.call('GET', KEYS[3])
  if written then
    local at = string.find(written, ' ', 1, true)
    FLOOR = tonumber(string.sub(written, 1, at - 1))
    if FLOOR > NOW then NOW = FLOOR end
    LIFE = string.sub(written, at + 1)
  end
  return NOW
end

-- Before every change, so that no later command sees an earlier instant. Only `enter.lua` makes a clock.
local function write_clock(now)
  if LIFE then redis.call('SET', KEYS[3], string.format('%.0f ', now) .. LIFE, 'PX', CLOCK_KEPT) end
end

local function id_of(key)
  return string.sub(key, #P + 3)
end

local function record_key(id)
  return P .. 'r:' .. id
end

local function read(key)
  local bytes = redis.call('GET', key)
  if not bytes then return nil end
  local record = cmsgpack.unpack(bytes)
  if record[V] ~= VERSION then
    error('ONCEGATE a record has format ' .. tostring(record[V]) .. ', which this version does not know')
  end
  return record
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

-- When a record is gone, whatever happens.
local function end_of(record)
  if record[PHASE] == SENT then return record[UNTIL] + record[DOUBT_FOR] end
  return record[UNTIL]
end

-- Enters `id` into a sorted set that lives at least as long as the entry.
local function enter(set, score, id, last)
  redis.call('ZADD', set, score, id)
  if redis.call('PTTL', set) < last + SLACK - NOW then redis.call('PEXPIREAT', set, last + SLACK) end
end

-- Takes entries that are over out of a set, a few at a time.
local function purge(set, now, most)
  local over = redis.call('ZRANGEBYSCORE', set, '-inf', now, 'LIMIT', 0, most)
  if #over > 0 then redis.call('ZREM', set, unpack(over)) end
  return #over
end

-- The sorted set of the records in a phase, by the next deadline.
local function phase_set(phase)
  if phase == QUEUED then return KEYS[4] end
  if phase == SENT then return KEYS[5] end
  if phase == DONE then return KEYS[6] end
  return KEYS[7]
end

-- Writes a record. `before`: the phase that it was found in, nil where there was none.
local function put(key, record, before)
  local id, last = id_of(key), end_of(record)
  local set = phase_set(record[PHASE])
  enter(set, record[UNTIL], id, last)
  if before and phase_set(before) ~= set then redis.call('ZREM', phase_set(before), id) end
  enter(P .. 's:' .. record[SCOPE], last, id, last)
  if not record[KEYED] then
    enter(P .. 't:' .. record[TARGET], last, id, last)
    if record[NAMES] then enter(P .. 't:' .. record[NAMES], last, id, last) end
  end
  redis.call('SET', key, cmsgpack.pack(record), 'PXAT', last + SLACK)
end

-- Takes a record away.
local function remove(key, record, before)
  local id = id_of(key)
  redis.call('ZREM', phase_set(before), id)
  redis.call('ZREM', P .. 's:' .. record[SCOPE], id)
  redis.call('ZREM', P .. 't:' .. record[TARGET], id)
  if record[NAMES] then redis.call('ZREM', P .. 't:' .. record[NAMES], id) end
  redis.call('DEL', P .. 'a:' .. id)
  redis.call('DEL', key)
end

-- Tells every gateway that the attempt `token` of a record ended: `kind` is `a` (answered, with the answer), `A` (the
-- same, and the answer has to be fetched), `n` (not executed) or `x` (in doubt).
local function publish(id, token, kind, rest)
  redis.call('PUBLISH', ARGV[2], kind .. id .. token .. rest)
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
  put(key, aged, before)
  tell_doubt(id_of(key), aged)
  return aged, aged[PHASE]
end

-- `domain::store::EndIntents::concerns`.
local function concerns(record, target, parents, scope)
  if record[TARGET] == target then return true end
  if in_flight(record) then return false end
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

-- From now on `from` means `to`, until `last` at least. Past the limit a new alias is not taken.
local function add_alias(from, to, last)
  if from == to then return false end
  local known = redis.call('GET', P .. 'l:' .. from)
  if known then
    local other = string.sub(known, 1, 16)
    if other == to and tonumber(string.sub(known, 17)) >= last then return false end
    redis.call('ZREM', P .. 'l', from .. other)
  elseif redis.call('ZCARD', P .. 'l') >= ALIASES_MOST then
    return false
  end
  enter(P .. 'l', last, from .. to, last)
  local text = to .. string.format('%.0f', last)
  redis.call('SET', P .. 'l:' .. from, text, 'PXAT', last + SLACK)
  redis.call('PUBLISH', ARGV[2], 'l' .. from .. text)
  return true
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
    for _, id in ipairs(redis.call('ZRANGE', P .. 't:' .. target, 0, -1)) do
      local key = record_key(id)
      local record, before = find(key, now)
      if record and not record[KEYED] and record[MEANING] ~= by and concerns(record, targets[1], parents, scope) then
        if record[PHASE] == DONE then
          remove(key, record, before)
          changed = changed + 1
        elseif record[PHASE] == SENT and not record[ENDED] then
          record[ENDED] = true
          put(key, record, before)
          changed = changed + 1
        end
      end
    end
  end
  return changed
end

-- The outcome of `record` is known: kept for `keep`, or nothing where a later success has ended the intent already.
-- `stored` is what is kept of the answer, `by` the token of the attempt that gave it.
local function answered(key, record, before, by, answer, stored, status, keep, now)
  local id = id_of(key)
  if record[ENDED] then
    remove(key, record, before)
    tell_gone(id, record, answer)
    return false
  end
  local token = record[TOKEN]
  record[PHASE], record[TOKEN] = DONE, by
  record[SINCE], record[UNTIL], record[STATUS], record[LENGTH] = now, now + keep, status, #stored
  redis.call('SET', KEYS[2], stored, 'PXAT', record[UNTIL] + SLACK)
  local waited = record[WAITED]
  record[WAITED] = false
  put(key, record, before)
  if waited then
    if #answer > INLINE then
      publish(id, token, 'A', '')
    else
      publish(id, token, 'a', answer)
    end
  end
  return true
end

