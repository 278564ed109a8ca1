// Package auth is Keyturn's vocabulary and its heart: what a sign-in gave us (Grant), when it is due (Policy),
// and how it is renewed so that its refresh token is never lost (Rotator). It knows no web framework and no SQL;
// what it needs of the outside world stands here as interfaces: Vault, and with it Journal or Announcer; Spool; Providers and Provider.
package auth
