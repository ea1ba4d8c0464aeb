// The page again every two seconds; what is marked data-live is taken over from it. Not while the tab is hidden.
(() => {
  "use strict";
  const EVERY = 2000;
  const PATIENCE = 5000;
  // The listener takes no longer targets.
  const LONGEST = 65000;
  const byId = (id) => document.getElementById(id);
  let timer;
  let asking = false;

  const page = async (target) => {
    const answer = await fetch(target, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    return new DOMParser().parseFromString(await answer.text(), "text/html");
  };

  // Makes `old` like `fresh` and leaves alone what is the same: focus, selection and scrolling stay.
  const take = (old, fresh) => {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
      old.replaceWith(document.importNode(fresh, true));
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    const [was, is] = [[...old.childNodes], [...fresh.childNodes]];
    was.slice(is.length).forEach((node) => node.remove());
    is.forEach((node, at) => (was[at] ? take(was[at], node) : old.append(document.importNode(node, true))));
  };

  const reachable = (yes) => {
    const text = yes ? "" : `not reachable, last seen ${byId("clock").textContent}`;
    if (byId("link").textContent !== text) byId("link").textContent = text;
    document.documentElement.classList.toggle("gone", !yes);
  };

  const refresh = async () => {
    clearTimeout(timer);
    if (document.hidden || asking) return;
    asking = true;
    try {
      const fresh = await page("/");
      for (const part of document.querySelectorAll("[data-live]")) {
        const other = fresh.getElementById(part.id);
        if (other) take(part, other);
      }
      document.title = fresh.title;
      reachable(true);
    } catch {
      reachable(false);
    }
    asking = false;
    timer = setTimeout(refresh, EVERY);
  };

  byId("try").addEventListener("submit", async (event) => {
    event.preventDefault();
    const target = `/?url=${encodeURIComponent(byId("url").value)}`;
    if (target.length > LONGEST) {
      byId("verdict").textContent = "That is longer than any request may be: the proxy answers 414 above 16 KiB.";
      return;
    }
    try {
      const fresh = await page(target);
      byId("verdict").replaceChildren(...document.importNode(fresh.getElementById("verdict"), true).childNodes);
      history.replaceState(null, "", target);
      reachable(true);
    } catch {
      byId("verdict").textContent = "compat-proxy did not answer.";
    }
  });
  document.addEventListener("visibilitychange", refresh);
  timer = setTimeout(refresh, EVERY);
})();
