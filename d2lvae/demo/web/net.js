"use strict";
// The nets, computed here. page.py wrote their layers; BatchNorm is folded into the convolution
// before it. An array of an image is (channels, height, width), row by row, as in MXNet.

const sigmoid = x => 1 / (1 + Math.exp(-x));

function bytes(base64) {
  const text = atob(base64), array = new Uint8Array(text.length);
  for (let i = 0; i < array.length; i++) array[i] = text.charCodeAt(i);
  return array;
}

const floats = base64 => new Float32Array(bytes(base64).buffer);

// Numbers of 12 bits, two in three bytes, times a scale for each row.
function unpack({packed, scales}, length) {
  const from = bytes(packed), scale = floats(scales), array = new Float32Array(length);
  const signed = number => number << 20 >> 20, columns = length / scale.length;
  for (let i = 0, k = 0; i < length; i += 2, k += 3) {
    array[i] = signed(from[k] | (from[k + 1] & 15) << 8) * scale[Math.floor(i / columns)];
    const next = i + 1;
    if (next < length)
      array[next] = signed(from[k + 1] >> 4 | from[k + 2] << 4) * scale[Math.floor(next / columns)];
  }
  return array;
}

function loaded(layers) {
  return layers.map(layer => ({
    ...layer, weight: unpack(layer, layer.rows * layer.columns), bias: floats(layer.bias),
  }));
}

// out[i * step + offset] = row i of the weights · x + its bias, four rows at a time
function multiply({weight, bias, rows, columns}, x, out, offset = 0, step = 1) {
  let row = 0;
  for (; row + 4 <= rows; row += 4) {
    let a = bias[row], b = bias[row + 1], c = bias[row + 2], d = bias[row + 3];
    let i = row * columns, j = i + columns, k = j + columns, l = k + columns;
    for (let n = 0; n < columns; n++) {
      const value = x[n];
      a += weight[i++] * value; b += weight[j++] * value;
      c += weight[k++] * value; d += weight[l++] * value;
    }
    out[row * step + offset] = a; out[(row + 1) * step + offset] = b;
    out[(row + 2) * step + offset] = c; out[(row + 3) * step + offset] = d;
  }
  for (; row < rows; row++) {
    let sum = bias[row];
    for (let n = 0, i = row * columns; n < columns; n++) sum += weight[i++] * x[n];
    out[row * step + offset] = sum;
  }
}

// A convolution: the patch of the image under each pixel of the output, times the weights.
function convolve(layer, x) {
  const {rows, columns, kernel, stride, pad} = layer, channels = columns / kernel ** 2;
  const side = Math.sqrt(x.length / channels), size = (side + 2 * pad - kernel) / stride + 1;
  const out = new Float32Array(rows * size * size), patch = new Float32Array(columns);
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) {
      for (let c = 0, n = 0; c < channels; c++) {
        for (let k = 0, y = i * stride - pad; k < kernel; k++, y++) {
          for (let l = 0, z = j * stride - pad; l < kernel; l++, z++) {
            const inside = y >= 0 && y < side && z >= 0 && z < side;
            patch[n++] = inside ? x[(c * side + y) * side + z] : 0;
          }
        }
      }
      multiply(layer, patch, out, i * size + j, size * size);
    }
  }
  return out;
}

// A transposed convolution: each pixel of the input puts a patch on the output.
function convolveTransposed({rows, columns, weight, bias, kernel, stride, pad}, x) {
  const filters = columns / kernel ** 2, side = Math.sqrt(x.length / rows);
  const size = (side - 1) * stride + kernel - 2 * pad;
  const out = new Float32Array(filters * size * size), patch = new Float32Array(columns);
  for (let f = 0; f < filters; f++) out.fill(bias[f], f * size * size, (f + 1) * size * size);
  for (let i = 0; i < side; i++) {
    for (let j = 0; j < side; j++) {
      patch.fill(0);
      for (let c = 0; c < rows; c++) {
        const value = x[(c * side + i) * side + j];
        if (value === 0) continue; // after a ReLU half of them are
        for (let n = 0, w = c * columns; n < columns; n++) patch[n] += weight[w++] * value;
      }
      for (let f = 0, n = 0; f < filters; f++) {
        for (let k = 0, y = i * stride - pad; k < kernel; k++, y++) {
          for (let l = 0, z = j * stride - pad; l < kernel; l++, z++, n++) {
            if (y >= 0 && y < size && z >= 0 && z < size) out[(f * size + y) * size + z] += patch[n];
          }
        }
      }
    }
  }
  return out;
}

function through(layers, x) {
  for (const layer of layers) {
    let out;
    if (layer.kind === "conv") out = convolve(layer, x);
    else if (layer.kind === "transposed") out = convolveTransposed(layer, x);
    else multiply(layer, x, out = new Float32Array(layer.rows));
    // ReLU and LeakyReLU: what is below 0 is multiplied by the slope
    if (layer.slope !== 1)
      for (let i = 0; i < out.length; i++) if (out[i] < 0) out[i] *= layer.slope;
    x = out;
  }
  return x;
}

const encode = (net, image) => through(net.encoder, image);
const decode = (net, code) => through(net.decoder, code).map(sigmoid);
const probabilityReal = (layers, image) => sigmoid(through(layers, image)[0]);
