// Passkeys: the browser makes them, signs in with them, and signs an answer with them.

const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const text = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");

function named(list) {
  return (list ?? []).map((each) => ({ ...each, id: bytes(each.id) }));
}

async function sent(address, fields) {
  const answer = await fetch(address, { method: "POST", body: new URLSearchParams(fields), redirect: "error" });
  if (!answer.ok) throw new Error(`refused: ${answer.status}`);
  return answer;
}

async function options(address, fields) {
  return (await sent(address, fields)).json();
}

async function asserted(asked) {
  const publicKey = { ...asked, challenge: bytes(asked.challenge), allowCredentials: named(asked.allowCredentials) };
  const made = await navigator.credentials.get({ publicKey });
  const { clientDataJSON, authenticatorData, signature } = made.response;
  const response = {
    clientDataJSON: text(clientDataJSON),
    authenticatorData: text(authenticatorData),
    signature: text(signature),
  };
  return JSON.stringify({ type: made.type, id: made.id, rawId: text(made.rawId), response });
}

async function enrolled(asked) {
  const publicKey = {
    ...asked,
    challenge: bytes(asked.challenge),
    user: { ...asked.user, id: bytes(asked.user.id) },
    excludeCredentials: named(asked.excludeCredentials),
  };
  const made = await navigator.credentials.create({ publicKey });
  const { clientDataJSON, attestationObject } = made.response;
  const response = { clientDataJSON: text(clientDataJSON), attestationObject: text(attestationObject) };
  return JSON.stringify({ type: made.type, id: made.id, rawId: text(made.rawId), response });
}

function tried(button, problem, work) {
  button.addEventListener("click", async () => {
    problem.textContent = "";
    button.disabled = true;
    try {
      await work();
    } catch {
      problem.textContent = "No passkey was used, or it was refused.";
    } finally {
      button.disabled = false;
    }
  });
}

const signIn = document.getElementById("passkey");
if (signIn) {
  tried(signIn, document.getElementById("problem"), async () => {
    const asked = await options("/passkeys/login-options", {});
    await sent("/passkeys/login", { evidence: await asserted(asked), challenge: asked.challenge });
    location.replace(document.querySelector(".sign-in").dataset.next);
  });
}

const add = document.getElementById("add-passkey");
if (add) {
  tried(add, document.getElementById("problem"), async () => {
    const { csrf } = add.dataset;
    const asked = await options("/passkeys/enrol-options", { csrf });
    await sent("/passkeys/enrol", { csrf, evidence: await enrolled(asked), challenge: asked.challenge });
    location.reload();
  });
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  form.addEventListener("submit", async (event) => {
    if (event.submitter?.name === "without") return;
    event.preventDefault();
    if (form.dataset.sent) return;
    const problem = form.querySelector(".problem");
    problem.textContent = "";
    try {
      const asked = await options(form.dataset.passkey, { csrf: form.csrf.value });
      form.factor.value = await asserted(asked);
      form.submit();
    } catch {
      problem.textContent = "No passkey was used, or it was refused.";
      delete form.dataset.sent;
    }
  });
}
