-- Tensors between JSON, where they are numbers, and the bytes that gRPC carries.

local ffi = require("ffi")
local json = require("json")

local tensors = {}

-- Element type, bytes, lowest, highest; without limits any number.
local TYPES = {
  UINT8 = {"uint8_t", 1, 0, 255}, UINT16 = {"uint16_t", 2, 0, 65535}, UINT32 = {"uint32_t", 4, 0, 2 ^ 32 - 1},
  UINT64 = {"uint64_t", 8, 0, 2 ^ 53}, INT8 = {"int8_t", 1, -128, 127}, INT16 = {"int16_t", 2, -32768, 32767},
  INT32 = {"int32_t", 4, -2 ^ 31, 2 ^ 31 - 1}, INT64 = {"int64_t", 8, -2 ^ 53, 2 ^ 53}, FP32 = {"float", 4},
  FP64 = {"double", 8},
}

local function refuse(message)
  error({status = 400, message = message})
end

-- One level of nested data after the other, each as long as the shape says; the values in `flat`.
local function flatten(data, shape, level, flat, name)
  if #data ~= shape[level] then
    refuse(string.format(
      "%s: the data has %d entries at level %d; its shape says %d", name, #data, level, shape[level] or 0
    ))
  end
  if level == #shape then
    for index = 1, #data do
      flat[#flat + 1] = data[index]
    end
    return
  end
  for index = 1, #data do
    if not json.is_array(data[index]) then
      refuse(name .. ": the data is neither flat nor nested as its shape says")
    end
    flatten(data[index], shape, level + 1, flat, name)
  end
end

-- Little-endian bytes of JSON's flat or nested numbers.
function tensors.pack(name, datatype, shape, data)
  local kind = TYPES[datatype]
  if not kind then
    refuse(name .. ": " .. json.shown(datatype) .. " cannot be given in JSON here; send UINT8, the pixels from 0 to 255")
  end
  local flat = data
  if json.is_array(data[1]) then
    flat = {}
    flatten(data, shape, 1, flat, name)
  end
  local count, lowest, highest = #flat, kind[3], kind[4]
  local expected = 1
  for _, size in ipairs(shape) do
    expected = expected * size
  end
  if count ~= expected then
    refuse(string.format("%s: %d values; its shape has %.0f", name, count, expected))
  end
  local packed = ffi.new(kind[1] .. "[?]", count)
  for index = 1, count do
    local number = flat[index]
    if type(number) ~= "number" then
      refuse(string.format("%s: value %d is no number", name, index - 1))
    elseif lowest and (number < lowest or number > highest or number ~= math.floor(number)) then
      refuse(string.format("%s: value %d is %.9g, which is no %s", name, index - 1, number, datatype))
    end
    packed[index - 1] = number
  end
  return ffi.string(packed, count * kind[2])
end

-- A JSON array of the numbers in little-endian bytes, each exact.
function tensors.print(datatype, bytes)
  local kind = TYPES[datatype] or error({status = 502, message = "the server answered with " .. datatype})
  local count = #bytes / kind[2]
  local packed = ffi.new(kind[1] .. "[?]", count)
  ffi.copy(packed, bytes, #bytes)
  local form, numbers = kind[3] and "%.0f" or (datatype == "FP32" and "%.9g" or "%.17g"), {}
  for index = 1, count do
    numbers[index] = string.format(form, tonumber(packed[index - 1]))
  end
  return "[" .. table.concat(numbers, ",") .. "]"
end

return tensors
