// @ts-check
// The one-time code of `lab dashboard` is in the fragment, which browsers send to no server.
const code = new URLSearchParams(location.hash.slice(1)).get("code");
const form = /** @type {HTMLFormElement | null} */ (document.getElementById("login"));
if (code && form) {
  history.replaceState(null, "", location.pathname + location.search);
  const field = document.createElement("input");
  field.type = "hidden";
  field.name = "code";
  field.value = code;
  form.append(field);
  form.querySelector("[name=token]")?.removeAttribute("required");
  form.submit();
}
