-- Records as an operator sees them. ARGV[3] …: their ids; without any, that of KEYS[1].
local now = read_clock()
local views = {}
local function view(key)
  local record = find(key, now)
  if not record then return end
  table.insert(views, {
    id_of(key), record[PHASE], record[KEYED] and 1 or 0, record[SCOPE], record[ROUTE], record[REQUEST],
    record[REQUEST_ID], record[CLAIMED], record[SINCE], record[UNTIL], record[WHY] or '', record[STATUS],
  })
end
if #ARGV == 2 then view(KEYS[1]) end
for at = 3, #ARGV do view(record_key(ARGV[at])) end
return views
