"use strict";

// Crops: two versions of one image, divided where the slider stands.
for (const view of document.querySelectorAll("[data-view]")) {
  const stage = view.querySelector(".stage");
  const slider = stage.querySelector("input");
  const tags = stage.querySelectorAll(".tag");
  const pictures = [stage.querySelector(".left"), stage.querySelector(".right")];
  const choices = view.querySelectorAll("select");

  const place = () => {
    stage.style.setProperty("--split", `${slider.value}%`);
    const share = Math.round(Number(slider.value));
    slider.setAttribute(
      "aria-valuetext",
      `${tags[0].textContent} on ${share}% of the width, then ${tags[1].textContent}`,
    );
  };

  const show = (side) => {
    const source = view.querySelector(`[data-version="${CSS.escape(choices[side].value)}"]`);
    pictures[side].src = source.src;
    pictures[side].alt = source.alt;
    tags[side].textContent = source.dataset.tag;
    place();
  };

  slider.addEventListener("input", place);
  choices.forEach((choice, side) => {
    choice.addEventListener("change", () => show(side));
    show(side);
  });
  view.querySelector("[data-live]").hidden = false;
  view.querySelector("[data-sources]").hidden = true;
}

// Heat maps: how strongly they cover the image.
for (const map of document.querySelectorAll("[data-map]")) {
  const slider = map.querySelector("input");
  const cover = () => {
    map.querySelector(".map").style.setProperty("--strength", slider.value / 100);
    slider.setAttribute("aria-valuetext", `${slider.value}%`);
  };
  slider.addEventListener("input", cover);
  cover();
}
