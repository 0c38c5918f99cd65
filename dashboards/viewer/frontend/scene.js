// The picture itself: Niivue holds the slice that is seen, and the shares of its regions on top.
import { Niivue, NVImage } from "@niivue/niivue";
import { largest, plane, shares } from "./images.js";

const INT16 = 4;
const FLOAT32 = 16;
const RAISES = [213, 94, 0];
const LOWERS = [0, 114, 178];

export class Scene {
  #viewer = new Niivue({
    backColor: [0, 0, 0, 1],
    crosshairWidth: 0,
    interactive: false,
    isOrientationTextVisible: false,
    isColorbar: false,
    loadingText: "",
    logLevel: "error",
    sliceType: 0,
  });
  #canvas;
  #image;
  #most = 1;
  #heatOpacity = 0;

  async attach(canvas) {
    this.#canvas = canvas;
    this.#viewer.addColormap("raises", ramp(RAISES));
    this.#viewer.addColormap("lowers", ramp(LOWERS));
    await this.#viewer.attachToCanvas(canvas, false);
  }

  /** Show an image from its first slice on. */
  async open(image) {
    this.#image = image;
    const { width, height, rows, columns } = image;
    const picture = await volume(width, height, [1, 1], INT16, plane(image, 0), "gray");
    Object.assign(picture.hdr, { scl_slope: image.step, scl_inter: image.offset });
    const heat = await volume(columns, rows, [width / columns, height / rows], FLOAT32, new Float32Array(rows * columns), "raises");
    this.#most = largest(image) || 1;
    // Below its minimum, Niivue lets a value of x shine through with an opacity of x squared.
    const range = { cal_min: 1, cal_max: 1, cal_minNeg: -1.001, cal_maxNeg: -1 };
    Object.assign(heat, { colormapNegative: "lowers", colormapType: 1, ...range });
    heat.opacity = this.#heatOpacity;
    this.#viewer.volumes = [];
    for (const each of [picture, heat]) this.#viewer.addVolume(each);
  }

  show({ slice, centre, width }) {
    const [picture, heat] = this.#viewer.volumes;
    picture.img = plane(this.#image, slice);
    heat.img = shares(this.#image, slice).map((share) => Math.sign(share || 0) * Math.sqrt(Math.abs(share || 0) / this.#most));
    picture.cal_min = centre - width / 2;
    picture.cal_max = centre + width / 2;
    this.#viewer.updateGLVolume();
  }

  heat(opacity) {
    this.#heatOpacity = opacity;
    if (this.#viewer.volumes[1]) this.#viewer.setOpacity(1, opacity);
  }

  /** Move so that the point at x, y from the middle (in pixels of the image) is in the middle. */
  move({ x, y, zoom }) {
    this.#viewer.setPan2Dxyzmm([x, y, 0, zoom]);
  }

  /** Return where a point of the page lies in the image, from its left and top, in [0, 1); null if outside. */
  place(clientX, clientY) {
    const box = this.#canvas.getBoundingClientRect();
    const scale = this.#canvas.width / box.width;
    const [x, y] = this.#viewer.canvasPos2frac([(clientX - box.left) * scale, (clientY - box.top) * scale]);
    return x >= 0 && x < 1 && y > 0 && y <= 1 ? { x, y: 1 - y } : null;
  }
}

function ramp([red, green, blue]) {
  return { R: [red, red], G: [green, green], B: [blue, blue], A: [0, 255], I: [0, 255] };
}

/** Make one slice whose top row is the highest: rows go down, while the axis goes up. */
function volume(width, height, [stepX, stepY], type, values, colormap) {
  const affine = [stepX, 0, 0, stepX / 2, 0, -stepY, 0, height * stepY - stepY / 2, 0, 0, 1, 0, 0, 0, 0, 1];
  const bytes = NVImage.createNiftiArray([width, height, 1], [stepX, stepY, 1], affine, type, values);
  return NVImage.new(bytes.buffer, "slice.nii", colormap, 1);
}
