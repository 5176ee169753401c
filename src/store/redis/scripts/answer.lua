-- The recorded answer, where it is done: { its bytes }.
local record = find(KEYS[1], read_clock())
if not record or record[PHASE] ~= DONE then return {} end
return {answer_of(KEYS[1], record)}
