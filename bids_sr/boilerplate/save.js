"use strict";
const download = (data, type, name) => {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(new Blob([data], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};

// A figure as an SVG file with its caption below: text stays text, so that a figure can be edited for a paper.
const saveFigure = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const svg = (name, properties, ...children) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(properties)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const decoded = (address) => {
    const comma = address.indexOf(",");
    const [head, body] = [address.slice(0, comma), address.slice(comma + 1)];
    if (!head.endsWith(";base64")) return decodeURIComponent(body);
    return new TextDecoder().decode(Uint8Array.from(atob(body), (c) => c.charCodeAt(0)));
  };
  const wrapped = (text, most) => {
    const lines = [""];
    for (const word of text.split(/\s+/)) {
      if (lines.at(-1) && lines.at(-1).length + word.length >= most) lines.push("");
      lines[lines.length - 1] += (lines.at(-1) && " ") + word;
    }
    return lines;
  };
  // What is drawn, and its size: of an SVG its own drawing, of everything else the image as it is.
  const drawing = (address, size) => {
    if (!address.startsWith("data:image/svg+xml")) {
      return [svg("image", { href: address, width: size[0], height: size[1] }), ...size];
    }
    const inner = new DOMParser().parseFromString(decoded(address), "image/svg+xml").documentElement;
    const [, , wide, high] = inner.getAttribute("viewBox").trim().split(/[\s,]+/).map(Number);
    inner.querySelector("style.paper")?.remove(); // a saved figure is on white paper
    inner.setAttribute("width", wide);
    inner.setAttribute("height", high);
    return [document.importNode(inner, true), wide, high];
  };

  return ({ address, size, name, caption }) => {
    const [inner, wide, high] = drawing(address, size);
    const font = Math.max(8, wide / 90);
    const lines = wrapped(caption, Math.floor((wide - 2 * font) / (0.52 * font)));
    const tall = high + (1.35 * lines.length + 1.2) * font;
    const text = svg("text", { "font-family": "DejaVu Sans, Arial, sans-serif", "font-size": font, fill: "#1f2933" },
      ...lines.map((line, k) => svg("tspan", { x: font, y: high + (1.35 * k + 1.5) * font }, line)));
    const whole = svg("svg", { width: wide, height: tall, viewBox: `0 0 ${wide} ${tall}` },
      svg("rect", { width: wide, height: tall, fill: "#fff" }), inner, text);
    download(new XMLSerializer().serializeToString(whole), "image/svg+xml", `${name}.svg`);
  };
})();
