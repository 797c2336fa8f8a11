import { ClerkFailed, ClerkLoading, ClerkProvider, Show, SignIn, useAuth, UserButton } from '@clerk/react';
import { StrictMode, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { Guest } from './guest.js';
import { Owner } from './owner.js';
import './style.css';

const baseUrl = import.meta.env.VITE_API_URL || 'http://localhost:3000';
const publishableKey = import.meta.env.VITE_CLERK_PUBLISHABLE_KEY;
const chatbotId = new URLSearchParams(location.search).get('chatbot');

function SignedIn() {
  const { getToken, userId } = useAuth();
  // Asked for at each request: Clerk's session tokens live for a minute, and it renews them.
  return <Owner key={userId} baseUrl={baseUrl} getToken={getToken} aside={<UserButton />} />;
}

function WithClerk({ publishableKey }: { publishableKey: string }) {
  return (
    <ClerkProvider publishableKey={publishableKey}>
      <ClerkLoading>
        <p className="center">Loading …</p>
      </ClerkLoading>
      <ClerkFailed>
        <p className="center problem">Clerk cannot be reached.</p>
      </ClerkFailed>
      <Show when="signed-out">
        <main className="center">
          <SignIn routing="hash" />
        </main>
      </Show>
      <Show when="signed-in">
        <SignedIn />
      </Show>
    </ClerkProvider>
  );
}

/** For a backend without Clerk, on one's own machine. */
function WithToken() {
  const [token, setToken] = useState('');
  if (token) return <Owner baseUrl={baseUrl} getToken={async () => token} />;
  return (
    <main className="center">
      <form className="card" action={(form) => setToken(String(form.get('token')).trim())}>
        <h1>Who are you?</h1>
        <p>
          There is no <code>VITE_CLERK_PUBLISHABLE_KEY</code>. Paste the owner token that{' '}
          <code>npm start</code> has printed:
        </p>
        <input name="token" type="password" aria-label="Owner token" autoComplete="off" required autoFocus />
        <button>Go on</button>
      </form>
    </main>
  );
}

function Page() {
  if (chatbotId) return <Guest baseUrl={baseUrl} chatbotId={chatbotId} />;
  return publishableKey ? <WithClerk publishableKey={publishableKey} /> : <WithToken />;
}

createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <Page />
  </StrictMode>,
);
