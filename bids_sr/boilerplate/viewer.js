// Maps to scroll through: three planes with one crosshair, drawn voxel by voxel on the grid that each map has.
(() => {
  const PLANES = [[0, 1, 2], [0, 2, 1], [1, 2, 0]]; // axes to the right and up, and the axis that is cut: axial, coronal, sagittal
  const LETTERS = [["L", "R"], ["L", "R"], ["P", "A"]];
  const BLINK_MS = 800;
  const BAR_PX = 62; // room for the color bar at the right
  const NARROW_PX = 600; // below it the axial plane stands above the others
  const WHEEL_PX = 40; // of the wheel are a slice
  const WHEEL_MS = 300; // what began as scrolling the page goes on as that over the planes
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // A volume of a .nii.gz as int8: size, voxel to mm, scale; what is embedded was written by us, in RAS order.
  const read = async (text) => {
    const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const view = new DataView(await new Response(stream).arrayBuffer());
    const size = [0, 1, 2].map((k) => view.getInt16(42 + 2 * k, true));
    const affine = [0, 1, 2].map((k) => [0, 1, 2, 3].map((j) => view.getFloat32(280 + 16 * k + 4 * j, true)));
    const data = new Int8Array(view.buffer, view.getFloat32(108, true), size[0] * size[1] * size[2]);
    return { size, affine, data, slope: view.getFloat32(112, true), packed };
  };
  const voxel = (volume, at) => volume.size.map((n, k) => Math.min(n - 1, Math.max(0, Math.floor(at[k] * n))));
  const value = (volume, at) => {
    const [x, y, z] = voxel(volume, at);
    return volume.slope * volume.data[x + volume.size[0] * (y + volume.size[1] * z)];
  };
  // RAS mm of the middle of the voxel at a place (shares of the field of view), and the place of a point in RAS mm.
  const millimeters = (volume, at) => {
    const index = voxel(volume, at);
    return volume.affine.map((row) => row[3] + row[0] * index[0] + row[1] * index[1] + row[2] * index[2]);
  };
  const placeOf = (volume, mm) => {
    const columns = [0, 1, 2].map((k) => volume.affine.map((row) => row[k]));
    const det = (a, b, c) => a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) + a[2] * (b[0] * c[1] - b[1] * c[0]);
    const from = mm.map((v, k) => v - volume.affine[k][3]);
    return volume.size.map((n, k) => (det(...columns.map((c, j) => (j === k ? from : c))) / det(...columns) + 0.5) / n);
  };
  // MNI mm at a place, between the points of a grid over the field of view.
  const inMni = ({ size, tenths }, at) => {
    const within = size.map((n, k) => Math.min(1, Math.max(0, at[k])) * (n - 1));
    const first = within.map((v, k) => Math.min(size[k] - 2, Math.floor(v)));
    return [0, 1, 2].map((axis) => {
      let sum = 0;
      for (let corner = 0; corner < 8; corner += 1) {
        const offset = [corner & 1, (corner >> 1) & 1, corner >> 2];
        const weight = offset.reduce((w, o, k) => w * (o ? within[k] - first[k] : 1 - within[k] + first[k]), 1);
        const [x, y, z] = first.map((v, k) => v + offset[k]);
        sum += weight * tenths[3 * (z + size[2] * (y + size[1] * x)) + axis];
      }
      return sum / 10;
    });
  };

  // One plane of a volume as a small canvas, a pixel a voxel; `paint` gives red, green, blue and opacity of a voxel.
  const sliced = (volume, [right, up, cut], at, paint) => {
    const [wide, high] = [volume.size[right], volume.size[up]];
    const steps = [1, volume.size[0], volume.size[0] * volume.size[1]];
    const start = steps[cut] * voxel(volume, at)[cut];
    const canvas = make("canvas", { width: wide, height: high });
    const pixels = new ImageData(wide, high);
    for (let j = 0, k = 0; j < high; j += 1) {
      for (let i = 0; i < wide; i += 1, k += 4) {
        pixels.data.set(paint(start + steps[right] * i + steps[up] * (high - 1 - j)), k);
      }
    }
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas;
  };
  // The edges of the voxels of a mask in one plane.
  const outline = (context, mask, [right, up, cut], at, [left, top, full, tall], ratio) => {
    const [wide, high] = [mask.size[right], mask.size[up]];
    const steps = [1, mask.size[0], mask.size[0] * mask.size[1]];
    const start = steps[cut] * voxel(mask, at)[cut];
    const inside = (i, j) => i >= 0 && j >= 0 && i < wide && j < high && mask.data[start + steps[right] * i + steps[up] * j] > 0;
    const [w, h] = [full / wide, tall / high];
    context.strokeStyle = "#fff";
    context.lineWidth = ratio;
    context.beginPath();
    for (let j = 0; j < high; j += 1) {
      for (let i = 0; i < wide; i += 1) {
        if (!inside(i, j)) continue;
        const [x, y] = [left + w * i, top + tall - h * (j + 1)];
        for (const [di, dj, ...line] of [[-1, 0, 0, 0, 0, 1], [1, 0, 1, 0, 1, 1], [0, 1, 0, 0, 1, 0], [0, -1, 0, 1, 1, 1]]) {
          if (inside(i + di, j + dj)) continue;
          context.moveTo(x + w * line[0], y + h * line[1]);
          context.lineTo(x + w * line[2], y + h * line[3]);
        }
      }
    }
    context.stroke();
  };
  const ramp = (colors) => {
    const parts = colors.map((c) => [1, 3, 5].map((k) => parseInt(c.slice(k, k + 2), 16)));
    return (share) => {
      const place = Math.min(1, Math.max(0, share)) * (parts.length - 1);
      const k = Math.min(parts.length - 2, Math.floor(place));
      return parts[k].map((v, c) => v + (place - k) * (parts[k + 1][c] - v));
    };
  };

  class Viewer {
    constructor(root) {
      this.root = root;
      this.given = JSON.parse(root.querySelector("script").textContent);
      this.cache = new Map();
      this.state = { ...this.given.first, threshold: this.given.threshold };
      const { contrast } = document.documentElement.dataset; // chosen at the top of the page
      if (this.given.contrasts.includes(contrast)) this.state.contrast = contrast;
      document.addEventListener("contrast", ({ detail }) => {
        if (this.given.contrasts.includes(detail) && detail !== this.state.contrast) this.show({ contrast: detail });
      });
      this.before = this.given.series.includes("bspline") ? "bspline" : this.given.series[0];
      this.at = this.given.at;
      this.maps = [];
      this.color = ramp(this.given.colors);
      this.controls();
    }

    async start() {
      this.below = await read(this.given.background);
      this.box = this.given.box;
      if (this.given.mni) {
        const bytes = Uint8Array.from(atob(this.given.mni.tenths), (c) => c.charCodeAt(0));
        this.mni = { size: this.given.mni.size, tenths: new Int16Array(bytes.buffer) };
      }
      const size = this.below.affine[0].map((_, k) => Math.hypot(...this.below.affine.map((row) => row[k])));
      this.mm = this.below.size.map((n, k) => n * size[k]);
      new ResizeObserver(() => this.draw()).observe(this.canvas);
      await this.show({});
      this.root.dataset.ready = "yes";
    }

    key({ contrast, smoothing, statistic, series }) { return [contrast, smoothing, statistic, series].join("|"); }

    async volume(state) {
      const key = this.key(state);
      if (!this.cache.has(key) && this.given.maps[key]) this.cache.set(key, read(this.given.maps[key]));
      return this.cache.get(key);
    }

    async show(change) {
      const next = { ...this.state, ...change };
      if (next.series !== this.state.series) this.before = this.state.series;
      this.state = next;
      const wanted = [{ series: "mask", statistic: "" }, ...this.given.statistics.map((statistic) => ({ statistic }))];
      const [mask, ...maps] = await Promise.all(wanted.map((part) => this.volume({ ...next, ...part })));
      if (this.state !== next) return; // another choice came in between
      // of several maps the last is that of the threshold
      Object.assign(this, { mask, maps, map: maps[this.given.statistics.indexOf(next.statistic)], level: maps.at(-1) });
      this.draw();
    }

    // Where the planes lie in the canvas: left edge, top, width and height in pixels; and the height of all of it.
    layout() {
      const ratio = devicePixelRatio || 1;
      const gap = 6 * ratio;
      const wide = Math.round(this.canvas.clientWidth * ratio);
      const room = wide - BAR_PX * ratio;
      const seen = this.mm.map((v, k) => v * (this.box[k][1] - this.box[k][0]));
      const rows = this.canvas.clientWidth < NARROW_PX ? [PLANES.slice(0, 1), PLANES.slice(1)] : [PLANES];
      const boxes = [];
      let top = 0;
      for (const planes of rows) {
        const total = planes.reduce((sum, [right]) => sum + seen[right], 0);
        const tall = Math.max(...planes.map(([, up]) => seen[up]));
        const scale = Math.min((room - gap * (planes.length - 1)) / total, (this.given.tallest * ratio) / tall);
        let left = (room - scale * total - gap * (planes.length - 1)) / 2;
        for (const [right, up] of planes) {
          boxes.push({ left, top: top + (scale * (tall - seen[up])) / 2, wide: scale * seen[right], high: scale * seen[up] });
          left += scale * seen[right] + gap;
        }
        top += scale * tall + gap;
      }
      return { boxes, ratio, wide, high: Math.round(top - gap), bar: room };
    }

    get limit() { return this.given.limits[this.key(this.state).replace(/\|[^|]*$/, "")]; }

    draw() {
      if (!this.below || !this.canvas.clientWidth) return;
      const { boxes, ratio, wide, high, bar } = this.layout();
      Object.assign(this.canvas, { width: wide, height: high });
      this.canvas.style.height = `${high / ratio}px`;
      const context = this.canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      context.fillStyle = "#000";
      context.fillRect(0, 0, this.canvas.width, this.canvas.height);
      const { below, map, level, limit, state: { threshold } } = this;
      const gray = (k) => { const g = Math.max(0, 2 * below.data[k]); return [g, g, g, 255]; };
      const over = (k) => (Math.abs(level.data[k] * level.slope) > threshold ? [...this.color(0.5 + (map.data[k] * map.slope) / (2 * limit)), 242] : [0, 0, 0, 0]);
      PLANES.forEach((plane, number) => {
        const { left, top, wide: w, high: h } = boxes[number];
        const [[x0, x1], [y0, y1]] = [this.box[plane[0]], this.box[plane[1]]];
        const [full, tall] = [w / (x1 - x0), h / (y1 - y0)];
        context.save();
        context.beginPath();
        context.rect(left, top, w, h);
        context.clip();
        const layers = [[below, gray], ...(map ? [[map, over]] : [])];
        const corner = [left - x0 * full, top - (1 - y1) * tall, full, tall];
        for (const [volume, paint] of layers) context.drawImage(sliced(volume, plane, this.at, paint), ...corner);
        if (this.mask) outline(context, this.mask, plane, this.at, corner, ratio);
        const [x, y] = [corner[0] + this.at[plane[0]] * full, corner[1] + (1 - this.at[plane[1]]) * tall];
        context.strokeStyle = "#35e0ff";
        context.lineWidth = ratio;
        context.beginPath();
        context.moveTo(left, y); context.lineTo(left + w, y);
        context.moveTo(x, top); context.lineTo(x, top + h);
        context.stroke();
        context.fillStyle = "#fff";
        context.font = `bold ${12 * ratio}px sans-serif`;
        context.fillText(LETTERS[number][0], left + 3 * ratio, top + h / 2);
        context.fillText(LETTERS[number][1], left + w - 13 * ratio, top + h / 2);
        context.restore();
      });
      this.drawBar(context, bar, high, ratio);
      this.tell();
    }

    // The color bar: gray where values are not shown.
    drawBar(context, left, high, ratio) {
      const [top, tall, wide] = [22 * ratio, Math.min(high - 36 * ratio, 240 * ratio), 12 * ratio];
      const x = left + 10 * ratio;
      const level = (v) => top + (tall * (this.limit - v)) / (2 * this.limit);
      for (let y = 0; y < tall; y += 1) {
        const share = 1 - (y + 0.5) / tall;
        const hidden = this.map === this.level && Math.abs(2 * share - 1) * this.limit <= this.state.threshold;
        context.fillStyle = hidden ? "#444" : `rgb(${this.color(share).map(Math.round).join(",")})`;
        context.fillRect(x, top + y, wide, 1.5);
      }
      context.fillStyle = "#fff";
      context.font = `${11 * ratio}px sans-serif`;
      context.fillText(this.state.statistic === "effect" ? "effect, %" : this.state.statistic, x, top - 9 * ratio);
      for (const v of [this.limit, this.limit / 2, 0, -this.limit / 2, -this.limit]) {
        context.fillText(`${Number(v.toPrecision(2))}`.replace("-", "−"), x + wide + 4 * ratio, level(v) + 4 * ratio);
      }
    }

    tell() {
      const { series, contrast, smoothing, threshold } = this.state;
      const rounded = (mm) => mm.map((v) => Math.round(v) + 0);
      const words = (mm) => rounded(mm).map((v, k) => `${"xyz"[k]} ${v}`.replace("-", "−")).join(", ");
      const place = rounded(millimeters(this.below, this.at));
      const { least, statistic, statistics, titles, names, files, space } = this.given;
      const absent = this.given.maps[this.key(this.state)] ? "loading the map" : "this map is not included in the page";
      const found = this.maps.map((map, k) => {
        const digits = map && Math.max(1, Math.round(-Math.log10(map.slope)));
        return map && `${statistics[k]} ${value(map, this.at).toFixed(digits)}${statistics[k] === "effect" ? " %" : ""}`.replace("-", "−");
      }).filter(Boolean);
      const text = !this.level ? absent : value(this.level, this.at) ? found.join(", ") : `|${statistic}| < ${least}`;
      const name = titles[series] || series;
      const smoothed = smoothing === "none" ? "unsmoothed" : `smoothed by ${smoothing}`;
      const mni = this.mni ? ` · MNI ${words(inMni(this.mni, this.at))} mm` : "";
      this.readout.textContent = `${name}, ${names[contrast] || contrast}, ${smoothed} · ${space} ${words(place)} mm${mni} · ${text}`;
      const file = files[this.key(this.state)];
      this.whole.replaceChildren(...(file ? ["Complete map: ", make("a", { href: file, textContent: file.split("/").at(-1) })] : []));
      Object.assign(this.root.dataset, { series, contrast, smoothing, threshold, statistic: this.state.statistic, at: place.join(",") });
      for (const [control, choice] of Object.entries(this.inputs)) choice.value = this.state[control];
      this.output.textContent = threshold;
      for (const button of this.buttons) button.setAttribute("aria-pressed", button.value === series);
      this.save.disabled = !this.map;
    }

    controls() {
      const { contrasts, smoothings, statistics, series, titles, names, statistic } = this.given;
      this.inputs = {};
      const choice = (name, values) => {
        const select = make("select", {}, ...values.map((text) => make("option", { value: text, textContent: names[text] || text })));
        select.addEventListener("change", () => {
          this.show({ [name]: select.value });
          if (name === "contrast") document.dispatchEvent(new CustomEvent("contrast", { detail: select.value }));
        });
        this.inputs[name] = select;
        return make("label", {}, `${name} `, select);
      };
      this.buttons = series.map((name) => {
        const button = make("button", { type: "button", value: name, textContent: titles[name] || name });
        button.addEventListener("click", () => this.show({ series: name }));
        return button;
      });
      const group = make("div", { role: "group", className: "series" }, ...this.buttons);
      group.setAttribute("aria-label", "series");
      const slider = make("input", { type: "range", min: this.given.least, max: this.given.most, step: this.given.step });
      slider.addEventListener("input", () => this.show({ threshold: Number(slider.value) }));
      this.inputs.threshold = slider;
      this.output = make("output");
      this.blink = make("button", { type: "button", textContent: "Blink", title: "Alternate between the last two series (key b)" });
      this.blink.setAttribute("aria-pressed", "false");
      this.blink.addEventListener("click", () => this.blinking());
      this.save = make("button", { type: "button", textContent: "Save thresholded preview" });
      this.save.title = `Save an 8-bit copy without values of |${statistic}| < ${this.given.least}, for viewing only (not for analysis)`;
      this.save.addEventListener("click", () => this.savePreview());
      const picture = make("button", { type: "button", textContent: "Save this view" });
      picture.addEventListener("click", () => this.saveView());
      this.canvas = make("canvas", { tabIndex: 0 });
      this.canvas.setAttribute("role", "application");
      this.canvas.setAttribute("aria-label", "Axial, coronal and sagittal planes of the map. The arrow keys move the crosshair left, right, forward and back. Page up and page down move the crosshair up and down. Press b to switch back to the previous series. Scroll to change the slice of a plane.");
      this.readout = make("p", { className: "readout" });
      this.readout.setAttribute("aria-live", "polite");
      this.whole = make("p", { className: "whole" });
      this.pointing();
      const bar = make("div", { className: "bar" }, choice("contrast", contrasts), choice("smoothing", smoothings),
        ...(statistics.length > 1 ? [choice("statistic", statistics)] : []), make("label", {}, `|${statistic}| > `, slider, this.output), this.blink, this.save, picture);
      this.root.append(bar, group, this.canvas, this.readout, this.whole);
    }

    // The run that the maps are of, in words: what stands above them.
    run() {
      const heading = this.root.closest(".part")?.querySelector("h3.run");
      return [document.title.replace("bids-sr: ", ""), heading?.textContent.trim()].filter(Boolean).join(", ");
    }

    fileName() {
      const { contrast, series, smoothing, statistic } = this.state;
      return [this.run().replace(/[, ]+/g, "-"), contrast, series, smoothing, statistic].join("_").replace(/ /g, "");
    }

    savePreview() {
      const name = `${this.fileName()}_thresholded${this.given.least}-preview.nii.gz`;
      if (this.map) download(this.map.packed, "application/gzip", name);
    }

    saveView() {
      const shown = `shown where |${this.given.statistic}| > ${this.state.threshold}`;
      const caption = `bids-sr: ${this.run()}. ${this.readout.textContent}; ${shown}.`;
      saveFigure({
        address: this.canvas.toDataURL("image/png"), size: [this.canvas.width, this.canvas.height], caption,
        name: this.fileName(),
      });
    }

    blinking() {
      const on = this.blink.getAttribute("aria-pressed") !== "true";
      this.blink.setAttribute("aria-pressed", on);
      clearInterval(this.timer);
      if (on) this.timer = setInterval(() => this.show({ series: this.before }), BLINK_MS);
    }

    // Moves by voxels along an axis, and says whether there was one to move to.
    move(axis, step) {
      const before = voxel(this.below, this.at)[axis];
      this.at = this.at.map((v, k) => (k === axis ? Math.min(0.999, Math.max(0, v + step / this.below.size[k])) : v));
      this.draw();
      return voxel(this.below, this.at)[axis] !== before;
    }

    // Moves to a point in scanner mm, in the map of that point where it is in the page.
    async go(mm, wanted) {
      const next = { ...this.state, ...wanted };
      this.at = placeOf(this.below, mm).map((v) => Math.min(0.999, Math.max(0, v)));
      await this.show(this.given.maps[this.key(next)] ? wanted : {});
    }

    pointing() {
      const planeAt = (event) => {
        const { boxes, ratio } = this.layout();
        const [x, y] = [event.offsetX * ratio, event.offsetY * ratio];
        const number = boxes.findIndex((b) => x >= b.left && x < b.left + b.wide && y >= b.top && y < b.top + b.high);
        return { boxes, x, y, number };
      };
      let [scrolled, turned] = [-WHEEL_MS, 0]; // when the wheel last scrolled the page; how far since the last slice
      addEventListener("wheel", (event) => { if (event.target !== this.canvas) scrolled = event.timeStamp; }, { passive: true });
      this.canvas.addEventListener("wheel", (event) => {
        const { number } = planeAt(event);
        turned = turned * event.deltaY < 0 ? event.deltaY : turned + event.deltaY;
        const moves = number >= 0 && !event.ctrlKey && event.timeStamp - scrolled >= WHEEL_MS;
        if (moves && Math.abs(turned) < WHEEL_PX) event.preventDefault();
        else if (moves && this.move(PLANES[number][2], turned < 0 ? 1 : -1)) { turned = 0; event.preventDefault(); }
        else scrolled = event.timeStamp; // at the last slice the page goes on
      }, { passive: false });
      const point = (event) => {
        const { boxes, x, y, number } = planeAt(event);
        if (number < 0) return;
        const [right, up] = PLANES[number];
        const within = (axis, share) => this.box[axis][0] + share * (this.box[axis][1] - this.box[axis][0]);
        this.at = [...this.at];
        this.at[right] = Math.min(0.999, within(right, (x - boxes[number].left) / boxes[number].wide));
        this.at[up] = Math.min(0.999, within(up, 1 - (y - boxes[number].top) / boxes[number].high));
        this.draw();
      };
      this.canvas.addEventListener("pointerdown", (event) => { this.canvas.setPointerCapture(event.pointerId); point(event); });
      this.canvas.addEventListener("pointermove", (event) => { if (event.buttons & 1) point(event); });
      const keys = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowDown: [1, -1], ArrowUp: [1, 1], PageDown: [2, -1], PageUp: [2, 1] };
      this.canvas.addEventListener("keydown", (event) => {
        if (event.key === "b") this.show({ series: this.before });
        else if (keys[event.key]) this.move(...keys[event.key]);
        else return;
        event.preventDefault();
      });
    }
  }

  // Where a browser cannot unpack the maps, the text for readers without scripts is shown instead.
  const begun = new Map();
  const begin = (root) => {
    if (!begun.has(root)) {
      const viewer = new Viewer(root);
      begun.set(root, viewer.start().then(() => viewer, () => {
        root.replaceChildren(make("p", { className: "failed", textContent: root.querySelector(".unscripted").textContent }));
      }));
    }
    return begun.get(root);
  };

  // A viewer is made when it is first seen: a page of many runs decodes only what is looked at.
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      begin(target);
    }
  });
  const roots = [...document.querySelectorAll("[data-viewer]")];
  for (const root of roots) seen.observe(root);

  // A peak in a table: a button moves the crosshair of the viewer of the same run there.
  const runOf = (element) => element.closest(".part")?.querySelector("h3.run")?.textContent;
  for (const cell of document.querySelectorAll("[data-peak]")) {
    const root = roots.find((each) => runOf(each) === runOf(cell));
    if (!root) continue;
    const { peak, contrast, series, smoothing } = cell.dataset;
    const button = make("button", { type: "button", className: "peak", title: "Show this peak in the viewer" }, ...cell.childNodes);
    button.addEventListener("click", async () => {
      for (let fold = root.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
      const viewer = await begin(root);
      if (!viewer) return;
      await viewer.go(peak.split(",").map(Number), { contrast, series, smoothing });
      root.scrollIntoView({ block: "nearest" });
    });
    cell.append(button);
  }
})();
