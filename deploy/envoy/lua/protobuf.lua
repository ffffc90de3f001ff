-- The few parts of Protocol Buffers and of gRPC's framing that the REST paths need.

local bit, ffi = require("bit"), require("ffi")

local protobuf = {}

local function varint(number)
  local bytes = {}
  while number >= 128 do
    bytes[#bytes + 1] = string.char(number % 128 + 128)
    number = math.floor(number / 128)
  end
  bytes[#bytes + 1] = string.char(number)
  return table.concat(bytes)
end

-- A field of bytes, text or another message.
function protobuf.bytes(field, content)
  return varint(field * 8 + 2) .. varint(#content) .. content
end

-- The same, left out where it is empty.
function protobuf.text(field, content)
  return content == "" and "" or protobuf.bytes(field, content)
end

-- A packed field of whole numbers from 0.
function protobuf.numbers(field, numbers)
  local parts = {}
  for index, number in ipairs(numbers) do
    parts[index] = varint(number)
  end
  return protobuf.bytes(field, table.concat(parts))
end

local function read_varint(text, at)
  local result, shift = 0ULL, 0
  while true do
    local part = text:byte(at) or error({status = 502, message = "the server's answer is cut off"})
    result = bit.bor(result, bit.lshift(ffi.cast("uint64_t", part % 128), shift))
    at, shift = at + 1, shift + 7
    if part < 128 then
      return tonumber(ffi.cast("int64_t", result)), at
    end
  end
end

-- The whole numbers of a packed field; negative ones as int64 has them.
function protobuf.unpack(content)
  local numbers, at = {}, 1
  while at <= #content do
    numbers[#numbers + 1], at = read_varint(content, at)
  end
  return numbers
end

-- Field number → list of its values: numbers, or bytes. The answers that are read here have no other kinds.
function protobuf.read(message)
  local fields, at = {}, 1
  while at <= #message do
    local tag, content, length
    tag, at = read_varint(message, at)
    if tag % 8 == 0 then
      content, at = read_varint(message, at)
    elseif tag % 8 == 2 then
      length, at = read_varint(message, at)
      content, at = message:sub(at, at + length - 1), at + length
    else
      error({status = 502, message = "the server's answer has a field of an unknown kind"})
    end
    local field = math.floor(tag / 8)
    fields[field] = fields[field] or {}
    table.insert(fields[field], content)
  end
  return fields
end

function protobuf.frame(message)
  local length = #message
  return string.char(
    0, math.floor(length / 16777216), math.floor(length / 65536) % 256, math.floor(length / 256) % 256, length % 256
  ) .. message
end

function protobuf.unframe(body)
  if #body < 5 or body:byte(1) ~= 0 then
    error({status = 502, message = "the server's answer is no plain gRPC message"})
  end
  return body:sub(6)
end

return protobuf
