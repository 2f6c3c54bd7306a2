(() => {
  const state = { status: "all", check: "", words: "" };
  const cards = [...document.querySelectorAll("article")];
  const show = () => {
    let shown = 0;
    for (const card of cards) {
      const fits = (state.status === "all" || card.dataset.status === state.status)
        && (!state.check || card.dataset.checks.split(" ").includes(state.check))
        && (!state.words || card.textContent.toLowerCase().includes(state.words));
      card.hidden = !fits;
      shown += fits;
      for (const part of card.querySelectorAll("section"))
        part.classList.toggle("dimmed", state.check !== "" && part.dataset.check !== state.check);
    }
    document.getElementById("none").hidden = shown > 0;
  };
  const press = (selector, chosen) => {
    for (const button of document.querySelectorAll(selector))
      button.setAttribute("aria-pressed", String(button === chosen));
  };
  for (const button of document.querySelectorAll(".count"))
    button.addEventListener("click", () => {
      state.status = button.dataset.status;
      press(".count", button);
      show();
    });
  for (const button of document.querySelectorAll(".chip"))
    button.addEventListener("click", () => {
      const again = state.check === button.dataset.check;
      state.check = again ? "" : button.dataset.check;
      press(".chip", again ? null : button);
      show();
    });
  document.getElementById("find").addEventListener("input", event => {
    state.words = event.target.value.trim().toLowerCase();
    show();
  });
})();
