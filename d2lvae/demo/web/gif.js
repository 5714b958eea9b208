"use strict";
// A GIF that moves, from images of numbers from 0 to 1: 252 colours, six of red, seven of green
// and six of blue, or 252 greys; its pixels are packed by LZW, as the format asks.

function gif(frames, [channels, height, width], zoom = 4, delay = 6) {
  const number = (share, steps) => Math.round(share * (steps - 1));
  const colours = Array.from({length: 256}, (_, i) => channels === 1
    ? Array(3).fill(Math.min(255, Math.round(i * 255 / 251)))
    : [Math.floor(i / 42) / 5, Math.floor(i / 6) % 7 / 6, i % 6 / 5].map(x => Math.min(255, 255 * x)));
  const index = (image, i) => channels === 1 ? number(image[i], 252)
    : 42 * number(image[i], 6) + 6 * number(image[i + width * height], 7) + number(image[i + 2 * width * height], 6);
  const short = value => [value & 255, value >> 8], [wide, high] = [zoom * width, zoom * height];
  const out = [...new TextEncoder().encode("GIF89a"), ...short(wide), ...short(high), 0xf7, 0, 0,
    ...colours.flat(), 0x21, 0xff, 11, ...new TextEncoder().encode("NETSCAPE2.0"), 3, 1, 0, 0, 0];
  for (const image of frames) {
    const pixels = Array.from({length: wide * high}, (_, i) =>
      index(image, Math.floor(i / wide / zoom) * width + Math.floor(i % wide / zoom)));
    out.push(0x21, 0xf9, 4, 4, ...short(delay), 0, 0, 0x2c, 0, 0, 0, 0, ...short(wide), ...short(high), 0, 8);
    const packed = lzw(pixels);
    for (let i = 0; i < packed.length; i += 255) {
      const block = packed.slice(i, i + 255);
      out.push(block.length, ...block);
    }
    out.push(0);
  }
  return new Uint8Array([...out, 0x3b]);
}

function lzw(pixels) {
  const out = [], clear = 256;
  let bits = 0, held = 0, size = 9, next = 258, known = new Map(), prefix = pixels[0];
  const write = code => {
    held |= code << bits;
    for (bits += size; bits >= 8; bits -= 8, held >>>= 8) out.push(held & 255);
  };
  write(clear);
  for (const pixel of pixels.slice(1)) {
    const pair = prefix * 256 + pixel;
    if (known.has(pair)) { prefix = known.get(pair); continue; }
    write(prefix);
    known.set(pair, next);
    if (next++ === 1 << size) size++;
    if (next > 4095) {
      write(clear);
      [size, next, known] = [9, 258, new Map()];
    }
    prefix = pixel;
  }
  write(prefix);
  write(257);
  return bits ? [...out, held & 255] : out;
}
