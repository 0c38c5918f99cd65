// The few messages that a component and the page around it send each other.

/** Call back whenever Streamlit runs its script again, with what Python passed and the theme. */
export function connect(render) {
  window.addEventListener("message", ({ data, source }) => {
    if (source === window.parent && data.type === "streamlit:render") render(data.args, data.theme);
  });
  say("componentReady", { apiVersion: 1 });
}

/** Make the frame as high as its content. */
export function fit() {
  say("setFrameHeight", { height: Math.ceil(document.body.scrollHeight) });
}

function say(type, what) {
  // No more than a height, so that anybody may hear it.
  window.parent.postMessage({ isStreamlitMessage: true, type: `streamlit:${type}`, ...what }, "*");
}
