// The typed client of client/ in a page of its own, without a framework. The page's own storage has the session, so that
// its tabs and a reload find it there.
import { createChat } from 'assistly-client';
import { session } from './page.js';
import { screenOf } from './typed-screen.js';

const { api, sessionId, token } = session;
const chatbotId = 'of-the-session';
localStorage.setItem(`assistly:${api}:${chatbotId}`, JSON.stringify({ id: sessionId, token }));
const chat = createChat({ baseUrl: api, chatbotId });

document.getElementById('root').innerHTML =
  '<main></main><form><input aria-label="Message" /><button>Send</button><button type="button">Stop</button></form>';
const main = document.querySelector('main');
const [form, input] = document.querySelectorAll('form, input');

function render() {
  const { status, error, messages } = screenOf(chat.getSnapshot());
  main.replaceChildren(
    ...messages.map(({ role, text }) => {
      const line = document.createElement('p');
      line.dataset.role = role;
      line.textContent = text;
      return line;
    }),
    ...(error ? [Object.assign(document.createElement('p'), { role: 'alert', textContent: error })] : []),
  );
  main.dataset.status = status;
}

chat.subscribe(render);
render();
form.addEventListener('submit', (event) => {
  event.preventDefault();
  chat.send(input.value);
  input.value = '';
});
document.querySelector('button[type=button]').addEventListener('click', () => void chat.stop());
