"""For whom an agent may work: users whose identity provider vouches for them, verified when a session is opened.

Rules:

1. A user with a login is who its token proves, whatever else the object says: the token is verified again, with
   every session.
2. Where the policy requires a login, nobody has a session without one; and no call is let through in a session whose
   token does not say that there was one.
3. A session ends with the token it was opened with, and when its login is too old for the policy: whom the provider no
   longer vouches for, no agent acts for.
"""

from __future__ import annotations

from dataclasses import replace

from zt_agents.errors import LoginRequiredError, TokenInvalidError
from zt_agents.identity.principals import Login, User
from zt_agents.identity.provider.oidc import IdentityProvider


class People:
    """Turns what an application knows about its user into a user that a session is opened for."""

    def __init__(self, provider: IdentityProvider | None) -> None:
        self.provider = provider

    def close(self) -> None:
        """End the connections to the provider."""
        if self.provider is not None:
            self.provider.close()

    @property
    def required(self) -> bool:
        """Whether there is no session without a login."""
        return self.provider is not None and self.provider.terms.required

    def user(
        self, *, id_token: str | None, nonce: str | None, access_token: str | None, now: float
    ) -> User:
        """Return the user that one of the tokens proves. See :meth:`Guard.user`."""
        provider = self._provider()
        if id_token is not None:
            return provider.user_of_id_token(id_token, nonce=nonce, now=now, access_token=access_token)
        if access_token is None:
            raise LoginRequiredError("Nothing proves who the user is.", hint="Have them log in.")
        return provider.user_of_access_token(access_token, now=now)

    def subject(self, user: User | str, *, ttl: int, now: float) -> tuple[User, int]:
        """Return the user a session is for, and how many seconds it may last, of *ttl*.

        Raises:
            LoginRequiredError: the policy requires a login, and there is none, or it is too old or too weak.
            TokenInvalidError: their token is not good; likewise TokenExpiredError.
            IdentityProviderError: the provider's keys cannot be had.
        """
        user = user if isinstance(user, User) else User(user)
        if user.login is None:
            if self.required:
                raise LoginRequiredError(
                    "The policy requires that users log in at the identity provider.",
                    hint="Hand over guard.user(access_token=...) or guard.user(id_token=..., nonce=...).",
                )
            return user, ttl
        proven = replace(self._provider().user_again(user.login, now=now), attributes=user.attributes)
        assert proven.login is not None
        ends = self._provider().ends(proven.login)
        return proven, min(ttl, max(1, int(ends - now)))

    def refuse_unproven(self, login: Login | None) -> None:
        """Refuse a session whose token says that nobody, or another provider, vouched for its user.

        Raises:
            LoginRequiredError: the policy requires that its own provider did.
        """
        if self.required and (login is None or login.issuer != self._provider().terms.issuer):
            raise LoginRequiredError("The session's token does not say that its user logged in.")

    def _provider(self) -> IdentityProvider:
        if self.provider is None:
            raise TokenInvalidError("The policy names no identity provider, so nobody can say who the user is.")
        return self.provider
