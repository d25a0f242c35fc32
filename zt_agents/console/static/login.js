// Takes the token out of the address, before anything else can see it, and signs in with it.

async function signIn() {
  const token = location.hash.slice(1);
  if (!token) return;
  history.replaceState(null, "", location.pathname + location.search);
  const problem = document.getElementById("problem");
  try {
    const answer = await fetch("/login", { method: "POST", body: new URLSearchParams({ token }), redirect: "error" });
    if (answer.ok) location.replace(document.querySelector(".sign-in").dataset.next);
    else problem.textContent = answer.status === 403 ? await answer.text() : "That did not work. Wait a minute.";
  } catch {
    problem.textContent = "The console cannot be reached.";
  }
}

window.addEventListener("hashchange", signIn);
signIn();
