"""A deletion that cannot come too late.

Who deletes looks first whether anybody needs the object. A process can be stopped between looking and deleting for any
time; the deletion is therefore signed before looking, for some seconds only, and the server refuses it afterwards.
"""

import http
import os
import urllib.request
from dataclasses import dataclass, field
from typing import cast

import botocore.awsrequest
import botocore.exceptions
import botocore.httpsession

from restill.errors import StorageUnreachable


@dataclass(frozen=True)
class ExpiringDelete:
    """One signed deletion."""

    address: str = field(repr=False)  # signed: whoever has it can delete
    uri: str
    direct: bool  # past any proxy

    def send(self) -> bool:
        """Delete the object. Returns False if the server refused because the time had passed.

        Raises: StorageUnreachable.
        """
        session = botocore.httpsession.URLLib3Session(
            verify=cast("bool", os.environ.get("AWS_CA_BUNDLE") or True),  # a file's name is as good
            proxies={} if self.direct else urllib.request.getproxies(),
            timeout=60,
        )
        try:
            answer = session.send(botocore.awsrequest.AWSRequest(method="DELETE", url=self.address).prepare())
            said = answer.text
        except botocore.exceptions.BotoCoreError as error:  # names the address, which must not be shown
            raise StorageUnreachable(
                f"Could not delete {self.uri}: {type(error).__name__}.", hint="Run it again; nothing is half done."
            ) from None
        finally:
            session.close()
        if answer.status_code == http.HTTPStatus.FORBIDDEN and "expired" in said.lower():
            return False
        if answer.status_code not in (http.HTTPStatus.NO_CONTENT, http.HTTPStatus.OK, http.HTTPStatus.NOT_FOUND):
            raise StorageUnreachable(
                f"Could not delete {self.uri}: HTTP {answer.status_code}.",
                hint="Check what the role may do there (s3:DeleteObject), and Object Lock.",
            )
        return True
