// Updates the list of messages. Without this script, reload the page instead.
const status = document.getElementById("status");

async function look() {
  if (document.hidden) return;
  const answer = await fetch("/", { cache: "no-store" });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.getElementById("messages");
  const shown = document.getElementById("messages");
  status.textContent = "";
  if (!fresh || fresh.innerHTML === shown.innerHTML) return;
  const focused = shown.contains(document.activeElement) && document.activeElement.getAttribute("href");
  shown.replaceWith(fresh);
  if (focused) fresh.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  status.textContent = `${fresh.querySelectorAll("li").length} messages`;
}

setInterval(() => look().catch(() => { status.textContent = "The stack does not respond. It has probably stopped."; }), 1500);
